"""Writes docs/screenshots: the page with the embedded model, as its user meets it.

    python -m tests.ui.screenshots [--only=light,phone] [--url=http://127.0.0.1:8000]

Without `--url` a server of its own is started in a temporary folder. Needs chromium.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dg2_jax.serve.client import Client
from tests.serve.load import wait_until_warm
from tests.ui.conftest import DESKTOP, EXECUTABLE
from tests.ui.helpers import PHONE, at_rest

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
PORT = 8098
GALLERY = (
    ("a calm lake at dawn", 3),
    ("green aurora over the night sky", 1),
    ("a waterfall in spring", 4),
    ("a misty pine forest", 2),
    ("desert dunes at sunset", 5),
    ("a glacier under a cloudy sky", 1),
    ("a tropical island at noon", 1),
    ("a snowy mountain at dusk", 9),
    ("a volcano at sunset", 0),
)
_LOADED = """() => [...document.images].every((image) => {
    const { top, bottom } = image.getBoundingClientRect();
    return image.complete || bottom < 0 || top > innerHeight;
})"""
SECONDS = 120_000  # for one job, on a machine that does other work too


class Studio:
    """A server with a filled gallery, and a browser that looks at it."""

    def __init__(self, browser: Browser, url: str, folder: Path):
        self.browser, self.url, self.folder = browser, url, folder
        self.client = httpx.Client(base_url=url)
        with Client(url) as client:
            found = self.client.get("/api/v1/images").json()["images"]
            for prompt, seed in GALLERY if len(found) < len(GALLERY) else ():
                client.generate(prompt=prompt, seed=seed)

    def open(self, scheme: str = "light", **options) -> Page:
        """The page in a fresh profile."""
        look = {"viewport": DESKTOP, "color_scheme": scheme, "reduced_motion": "reduce"}
        page = self.browser.new_context(**{**look, **options}).new_page()
        page.set_default_timeout(SECONDS)
        page.goto(self.url)
        expect(page.locator(".thumbs .tile").first).to_be_visible(timeout=SECONDS)
        return page

    def shoot(self, page: Page, name: str) -> None:
        """Writes a screenshot and closes the page."""
        page.evaluate("document.querySelector('.composer-scroll').scrollTop = 0")
        page.wait_for_function(_LOADED)
        at_rest(page)
        data = page.screenshot()
        with Image.open(io.BytesIO(data)) as shot:
            shot.convert("RGB").save(self.folder / f"{name}.png", optimize=True)
        print(name, flush=True)

    def picture(self, prompt: str) -> dict:
        """A picture of the gallery."""
        found = self.client.get("/api/v1/images", params={"q": prompt, "kind": "txt2img"}).json()
        return found["images"][-1]

    def source(self, page: Page, prompt: str) -> None:
        """Chooses a picture of the gallery as the source, as a file."""
        data = self.client.get(self.picture(prompt)["url"]).content
        page.set_input_files(
            "#source-file", [{"name": "a.png", "mimeType": "image/png", "buffer": data}]
        )


def mode(page: Page, name: str) -> None:
    page.get_by_role("radio", name=name, exact=True).check()


def prompt(page: Page, text: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(text)


def seed(page: Page, number: int) -> None:
    page.get_by_role("button", name="Keep this seed").click()
    page.locator("#f-seed").fill(str(number))


def make(page: Page) -> None:
    page.locator("#generate").click()
    expect(page.locator(".job")).to_have_attribute("data-status", "done", timeout=SECONDS)


def result(studio: Studio, scheme: str) -> None:
    page = studio.open(scheme)
    prompt(page, "a volcano at sunset")
    page.get_by_label("Negative prompt").fill("fog")
    page.get_by_label("Pictures, exactly").fill("4")
    seed(page, 20)
    make(page)
    studio.shoot(page, scheme)


def light(studio: Studio) -> None:
    result(studio, "light")


def dark(studio: Studio) -> None:
    result(studio, "dark")


def first_visit(studio: Studio) -> None:
    page = studio.open()
    page.route("**/api/v1/images?*", lambda route: route.fulfill(json={"images": [], "next": None}))
    page.reload()
    expect(page.get_by_role("button", name="Make this picture")).to_be_visible()
    studio.shoot(page, "first-visit")


def running(studio: Studio) -> None:
    page = studio.open()
    prompt(page, "a waterfall in spring")
    page.get_by_label("Steps, exactly").fill("100")
    page.get_by_label("Pictures, exactly").fill("2")
    seed(page, 4)
    page.locator("#generate").click()
    expect(page.locator("img.preview").first).to_be_visible(timeout=SECONDS)
    page.wait_for_function("() => document.querySelector('img.preview')?.dataset.step >= 40")
    studio.shoot(page, "running")
    page.locator("#cancel").click()


def img2img(studio: Studio) -> None:
    page = studio.open()
    mode(page, "Image")
    studio.source(page, "a calm lake at dawn")
    prompt(page, "a calm lake at sunset")
    page.get_by_label("Strength, exactly", exact=True).fill("0.6")
    seed(page, 2)
    make(page)
    page.get_by_role("button", name="Compare").click()
    studio.shoot(page, "img2img")


def mask_editor(studio: Studio) -> None:
    page = studio.open()
    mode(page, "In-paint")
    studio.source(page, "a calm lake at dawn")
    canvas = page.locator("#mask-canvas")
    canvas.hover()
    stroke(page, canvas.bounding_box(), [(0.58, 0.42), (0.7, 0.3), (0.82, 0.43), (0.66, 0.42)])
    expect(page.get_by_text("% painted")).to_be_visible()
    studio.shoot(page, "mask-editor")
    page.get_by_role("button", name="Done").click()
    prompt(page, "a volcano by a calm lake at dawn")
    page.get_by_role("switch", name="Blend in carefully").check()
    seed(page, 0)
    make(page)
    page.get_by_role("button", name="Compare").click()
    studio.shoot(page, "in-painting")


def stroke(page: Page, box: dict, points: list[tuple[float, float]]) -> None:
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()


def outpaint(studio: Studio) -> None:
    page = studio.open("dark")
    mode(page, "In-paint")
    page.get_by_role("radio", name="Around the picture").check()
    studio.source(page, "a calm lake at dawn")
    prompt(page, "a calm lake at dawn")
    page.get_by_label("Right", exact=True).fill("64")
    page.get_by_role("switch", name="Blend in carefully").check()
    seed(page, 1)
    make(page)
    page.get_by_role("button", name="Compare").click()
    studio.shoot(page, "out-painting")


def anagram(studio: Studio) -> None:
    page = studio.open()
    mode(page, "Anagram")
    page.get_by_label("Reading 1", exact=True).fill("a volcano at sunset")
    page.get_by_label("Reading 2", exact=True).fill("a calm lake at sunset")
    page.get_by_label("View of reading 2").select_option("upside down")
    seed(page, 4)
    make(page)
    box = page.locator(".anagram-frame").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + 150, y)
    page.mouse.down()
    page.mouse.move(x + 140, y + 60, steps=6)
    studio.shoot(page, "anagram")
    page.mouse.up()


def prompt_matching(studio: Studio) -> None:
    page = studio.open()
    prompt(page, "sunrise over water")
    page.get_by_role("button", name="Match", exact=True).click()
    expect(page.locator(".candidates button").first).to_be_visible(timeout=SECONDS)
    studio.shoot(page, "prompt-matching")


def prompt_bank(studio: Studio) -> None:
    page = studio.open("dark")
    page.get_by_role("button", name="Browse").click()
    expect(page.locator(".bank-prompt").first).to_be_visible(timeout=SECONDS)
    studio.shoot(page, "prompt-bank")


def upscaling(studio: Studio) -> None:
    page = studio.open()
    mode(page, "Upscale")
    studio.source(page, "a tropical island at noon")
    page.get_by_role("radio", name="4×").check()
    make(page)
    page.get_by_role("slider", name="How much of the picture before is shown").fill("50")
    studio.shoot(page, "upscaling")


def picture(studio: Studio) -> None:
    page = studio.open("dark")
    page.get_by_label("Search prompts").fill("aurora")
    expect(page.locator(".thumbs .tile")).to_have_count(1)
    page.locator(".thumbs .tile").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    studio.shoot(page, "picture")


def xy_grid(studio: Studio) -> None:
    page = studio.open()
    prompt(page, "a volcano at sunset")
    seed(page, 0)
    page.get_by_role("button", name="X/Y grid").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Across", exact=True).select_option("Guidance")
    dialog.get_by_label("Across: values").fill("1, 3, 5, 8")
    dialog.get_by_label("Down", exact=True).select_option("Solver")
    dialog.get_by_label("Down: values").fill("ddim, dpmpp_2m")
    dialog.get_by_role("button", name="Make 8 pictures").click()
    expect(page.locator(".grid-view td img")).to_have_count(8, timeout=SECONDS)
    studio.shoot(page, "xy-grid")


def phone(studio: Studio) -> None:
    page = studio.open(**PHONE)
    studio.shoot(page, "phone-form")
    prompt(page, "a volcano at sunset")
    make(page)
    studio.shoot(page, "phone-result")


def phone_mask(studio: Studio) -> None:
    page = studio.open("dark", **PHONE)
    page.locator(".thumbs .tile").first.tap()
    expect(page.get_by_role("dialog")).to_be_visible()
    studio.shoot(page, "phone-picture")
    page.get_by_role("dialog").get_by_role("button", name="In-paint").tap()
    box = page.locator("#mask-canvas").bounding_box()
    for x, y in ((0.4, 0.4), (0.5, 0.38), (0.6, 0.42)):
        page.touchscreen.tap(box["x"] + x * box["width"], box["y"] + y * box["height"])
    studio.shoot(page, "phone-mask")


def tablet(studio: Studio) -> None:
    page = studio.open("dark", viewport={"width": 900, "height": 1100})
    prompt(page, "a waterfall in spring")
    seed(page, 7)
    make(page)
    studio.shoot(page, "tablet")


SCENES: dict[str, Callable[[Studio], None]] = {
    scene.__name__: scene
    for scene in (
        light, dark, first_visit, running, img2img, mask_editor, outpaint, anagram,
        prompt_matching, prompt_bank, upscaling, picture, xy_grid, phone, phone_mask, tablet,
    )
}  # fmt: skip


def photograph(url: str, folder: Path, names: list[str]) -> None:
    """Plays the scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        studio = Studio(browser, url, folder)
        for name in names:
            SCENES[name](studio)
            for context in browser.contexts:
                context.close()
        browser.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--only", default=",".join(SCENES), help="names, with commas")
    parser.add_argument("--url", help="of a server that runs already")
    options = parser.parse_args()
    names = options.only.split(",")
    if options.url:
        photograph(options.url, options.out, names)
        return
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "serve", f"--port={PORT}", f"--data={data}"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until_warm(f"http://127.0.0.1:{PORT}")
            photograph(f"http://127.0.0.1:{PORT}", options.out, names)
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    main()
