"""The page in a real browser, against a live server with a fake pipeline."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serve.live import LiveServer, quiet
from tests.ui.painter import ScenePipeline

expect.set_options(timeout=15_000)  # machines of CI are slow
EXECUTABLE = os.environ.get("DG2_CHROMIUM") or shutil.which("chromium")
DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium, or the one of $DG2_CHROMIUM.

    Without one the tests are skipped, or fail where DG2_REQUIRE_BROWSER is set, as .ci/run does.
    """
    if EXECUTABLE is None:
        refuse = pytest.fail if os.environ.get("DG2_REQUIRE_BROWSER") else pytest.skip
        refuse("the tests of the page need chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def live(tmp_path) -> Iterator[LiveServer]:
    """A server whose pipeline paints scenes at once; set `pipe.step_seconds` to slow it down."""
    quiet()
    server = LiveServer(tmp_path / "data", pipe=ScenePipeline())
    yield server
    server.stop()


def is_problem(message) -> bool:
    """A console message that should not be; a request that a test itself aborted may be."""
    return message.type in ("error", "warning") and "ERR_FAILED" not in message.text


@pytest.fixture
def provoked() -> list[str]:
    """Parts of the console messages that a test brings about, such as a refused request's."""
    return []


@pytest.fixture
def open_page(browser, live, provoked) -> Iterator:
    """Opens the page in a fresh browser profile; the page must stay free of errors."""
    problems: list[str] = []
    contexts = []

    def open_page(path: str = "/", **options) -> Page:
        context = browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda m: is_problem(m) and problems.append(m.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(live.url + path)
        expect(page.locator("#generate")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    problems = [text for text in problems if not any(part in text for part in provoked)]
    assert not problems, problems


@pytest.fixture
def page(open_page) -> Page:
    """The page on a desktop, empty."""
    return open_page()
