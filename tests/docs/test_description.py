"""The text that a package index shows."""

import re
import runpy
from pathlib import Path

import dg2_jax

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
description = runpy.run_path(str(ROOT / "setup.py"))["description"]
TARGET = re.compile(r"\]\(([^)]*)\)")


def test_links_and_pictures_are_absolute():
    shown = description(README, "https://example.org/dg2", "1.2.3")
    targets = TARGET.findall(shown)
    assert len(targets) == len(TARGET.findall(README))
    assert all(target.startswith("https://") for target in targets)
    assert "(https://example.org/dg2/raw/v1.2.3/docs/screenshots/light.png)" in shown
    assert "(https://example.org/dg2/blob/v1.2.3/docs/controls.md)" in shown


def test_without_an_address_nothing_leads_nowhere():
    shown = description(README, "", "1.2.3")
    assert all(target.startswith("https://") for target in TARGET.findall(shown))
    assert "![" not in shown
    assert "Getting started installs it" in shown


def test_the_version_is_the_same_everywhere():
    version = dg2_jax.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] in (version, "Unreleased")
