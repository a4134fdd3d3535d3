"""The site is built without a warning or a network, and has what is declared in the code."""

import dataclasses
import html
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dg2_jax
from dg2_jax import bank, diffusion
from dg2_jax.controls.arguments import declared
from dg2_jax.serve import client
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.training import runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out]
    settings = {
        **os.environ,
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def page(site, name):
    return (site / name / "index.html").read_text("utf-8")


def rows(text):
    """The first cell of each row that begins with code, to the row's text."""
    found = re.findall(r"<tr>\s*<td><code>([^<]+)</code></td>(.*?)</tr>", text, re.DOTALL)
    return {
        html.unescape(name): html.unescape(re.sub(r"<[^>]+>", "", rest)) for name, rest in found
    }


def test_every_control_is_on_its_page(site):
    shown = rows(page(site, "controls"))
    for name, control in declared().items():
        assert control.help in shown[name], name
        for choice in control.describe()["choices"] or ():
            assert str(choice) in shown[name], (name, choice)


def test_every_setting_of_the_server_is_on_its_page(site):
    shown = rows(page(site, "server"))
    for name, field in ServerSettings.model_fields.items():
        assert field.description in shown[f"DG2_{name.upper()}"]


def test_every_key_of_the_configurations_is_explained(site):
    text = page(site, "configuration")
    shown = rows(text)
    classes = [runs.DenoiserRunConfig, runs.DistillationRunConfig, runs.AutoencoderRunConfig]
    for cls in classes:
        nested = [field.default_factory for field in dataclasses.fields(cls)]
        for one in [cls, *(n for n in nested if dataclasses.is_dataclass(n))]:
            assert f'id="{one.__name__.lower()}"' in text
            assert {field.name for field in dataclasses.fields(one)} <= set(shown)
    assert "None" not in [explanation.strip() for explanation in shown.values()]


def public(module):
    """The names that a module defines for others."""
    for name, value in vars(module).items():
        ours = inspect.isclass(value) or inspect.isfunction(value)
        if ours and value.__module__ == module.__name__ and not name.startswith("_"):
            yield value


def documented():
    """Everything public that the reference must have."""
    yield from (getattr(dg2_jax, name) for name in dg2_jax.__all__)
    yield from (getattr(bank, name) for name in bank.__all__)
    yield from public(client)
    for found in pkgutil.iter_modules(diffusion.__path__, f"{diffusion.__name__}."):
        yield from public(importlib.import_module(found.name))


def test_the_reference_has_every_public_name_with_its_docstring(site):
    text = page(site, "python") + page(site, "mathematics")
    for value in documented():
        name = f"{value.__module__}.{value.__qualname__}"
        assert inspect.getdoc(value), name
        assert f'id="{name}"' in text, name
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            plain = getattr(function, "__func__", function)
            if inspect.isfunction(plain) and not method.startswith("_"):
                assert inspect.getdoc(plain), f"{name}.{method}"
                assert f'id="{name}.{method}"' in text, f"{name}.{method}"


def test_equations_are_drawn_without_scripts(site):
    for name in ("schedules", "solvers", "guidance", "inpainting", "anagrams", "matching"):
        text = page(site, f"how/{name}")
        assert text.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 2
        assert "arithmatex" not in text
        for equation in re.findall(r"<math.*?</math>", text, re.DOTALL):
            assert "\\" not in equation, equation


def test_nothing_is_fetched_to_read_it(site):
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        assert not re.search(r'<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//', text), path
        for link in re.findall(r"<link [^>]*>", text):
            assert "canonical" in link or not re.search(r'href="(?:https?:)?//', link), link


def test_files_of_the_repository_are_pages(site):
    assert "2,640 prompts" in page(site, "bank")
    assert dg2_jax.__version__ in page(site, "changelog")
    assert "pull requests" in page(site, "contributing")
    assert not list(site.rglob("hooks.py"))
