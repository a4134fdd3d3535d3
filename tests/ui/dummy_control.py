"""Declares one more control before anything else is imported, and tells where it shows up.

Run by `test_page_controls` in a separate process: everything else derives from the declaration.
"""

import contextlib
import dataclasses
import inspect
import io
import json
import runpy
import sys
import tempfile

from dg2_jax import settings
from dg2_jax.controls import declaration
from dg2_jax.controls.values import Real

HELP = "How much the picture sparkles, from 0 to 2."


def declare() -> None:
    """Adds the control to the settings."""
    field = declaration.control(0.5, Real(0.0, 2.0), HELP, "sampling", advanced=True)
    settings.Settings = dataclasses.make_dataclass(
        "Settings", [("sparkle", float, field)], bases=(settings.Settings,), frozen=True
    )


def script_help() -> str:
    """What `python -m scripts.sample --help` prints."""
    out = io.StringIO()
    sys.argv = ["sample", "--help"]
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        runpy.run_module("scripts.sample", run_name="__main__", alter_sys=True)
    return out.getvalue()


def main() -> None:
    """Prints what was seen as JSON."""
    declare()  # before the imports below, which derive from the settings
    from playwright.sync_api import sync_playwright

    from dg2_jax import Pipeline
    from tests.serve.live import LiveServer, quiet
    from tests.ui.conftest import EXECUTABLE

    quiet()
    parameter = inspect.signature(Pipeline.__call__).parameters["sparkle"]
    seen = {"signature": [parameter.default, parameter.annotation.__name__]}
    seen["help"] = script_help()
    server = LiveServer(tempfile.mkdtemp())
    schemas = server.client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    seen["openapi"] = schemas["Txt2Img"]["properties"]["sparkle"]
    offer = server.client.get("/api/v1/options").json()["controls"]
    seen["options"] = next(one for one in offer if one["name"] == "sparkle")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_text("Advanced").click()
        widget = page.locator("[data-control=sparkle]")
        seen["page"] = widget.inner_text()
        page.get_by_label("Sparkle, exactly").fill("1.5")
        page.get_by_label("Prompt", exact=True).fill("a lake")
        page.locator("#generate").click()
        page.locator('.job[data-status="done"]').wait_for()
        seen["page again"] = page.get_by_label("Sparkle, exactly").input_value()
        browser.close()
    seen["call"] = server.pipe.calls[-1]["sparkle"]
    server.stop()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
