"""What the page ships of others: unchanged files, and a typeface that makes it alike everywhere."""

import hashlib
import re

import pytest
from playwright.sync_api import Page, expect

from dg2_jax.serve.routes.page import STATIC

VENDOR = STATIC / "vendor"
TABLE = re.findall(
    r"^\| (\S+) \| \S+ \| [\d.]+ \| \S+ \| [\w.-]+, (\S+) \| (\w{64}) \|$",
    (VENDOR / "VENDORED.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
FIRST_VISIT_KB = 430  # of everything that the page loads, uncompressed


def test_the_table_has_every_file():
    files = {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".woff2")}
    assert {name for name, _, _ in TABLE} == files


@pytest.mark.parametrize(("name", "licence", "digest"), TABLE)
def test_files_are_unchanged_and_have_a_licence(name, licence, digest):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
    assert (VENDOR / licence).stat().st_size > 500


def test_the_typeface_is_the_pages_own(page: Page):
    page.evaluate("document.fonts.ready")
    loaded = "[...document.fonts].filter((f) => f.status === 'loaded').map((f) => f.family)"
    assert page.evaluate(loaded) == ["Inter"]
    kinds = "performance.getEntriesByType('resource').filter((e) => e.name.endsWith('woff2'))"
    fonts = f"{kinds}.map((e) => e.name.split('/').at(-1))"
    assert page.evaluate(fonts) == ["inter-latin.woff2"]
    page.get_by_label("Prompt", exact=True).fill("Čerchov, Łysica")
    page.wait_for_function(f"() => {fonts}.includes('inter-latin-ext.woff2')")
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    for selector in ("#f-prompt", "h1", "#generate"):
        expect(page.locator(selector)).to_be_visible()
        node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})
        used = session.send("CSS.getPlatformFontsForNode", {"nodeId": node["nodeId"]})["fonts"]
        assert {(font["familyName"], font["isCustomFont"]) for font in used} <= {("Inter", True)}


def test_a_first_visit_is_light(page: Page):
    page.wait_for_load_state("networkidle")
    sizes = "performance.getEntries().map((e) => e.decodedBodySize ?? 0)"
    assert sum(page.evaluate(sizes)) < 1000 * FIRST_VISIT_KB
