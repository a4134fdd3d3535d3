"""What tests of the page do again and again."""

import contextlib
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from dg2_jax.bank.builder import read_prompts

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PROMPTS = (
    "a calm lake at dawn",
    "green aurora over the night sky",
    "a waterfall in spring",
    "a misty pine forest",
    "desert dunes at sunset",
    "a glacier under a cloudy sky",
    "a red canyon in the evening sun",
    "a bamboo grove in the rain",
    "a snowy mountain at dusk",
)
_AXE = Path(__file__).parent / "vendor" / "axe.min.js"
_AT_REST = """async () => {
    const frame = () => new Promise(requestAnimationFrame);
    const ends = (a) => Number.isFinite(a.effect.getComputedTiming().endTime);
    await frame();
    for (let moving = true; moving; ) {
        await frame();
        moving = document.getAnimations().some((a) => a.playState === "running" && ends(a));
    }
}"""


def at_rest(page: Page) -> None:
    """Waits until what moves and fades has come to its end."""
    page.evaluate(_AT_REST)


def violations(page: Page) -> list[str]:
    """What axe-core finds in the dialog that is open, or in the page if none is, in short."""
    at_rest(page)
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE.read_text())
    found = page.evaluate(
        """async () => {
            const dialogs = [...document.querySelectorAll("dialog[open]")];
            const where = dialogs.at(-1) ?? document;
            const {violations} = await axe.run(where, {resultTypes: ["violations"]});
            return violations.map(({id, nodes: [one]}) => [id, one.html, one.failureSummary]);
        }"""
    )
    return [f"{rule}: {html[:200]} {why[:300]}" for rule, html, why in found]


def fill_gallery(live) -> None:
    """A picture of each of `PROMPTS`."""
    for i, prompt in enumerate(PROMPTS):
        live.finished(live.submit(prompt=prompt, seed=i + 3, num_inference_steps=1)["id"])


def fill_bank(live) -> None:
    """The prompts that ship."""
    entries = read_prompts()
    live.context.bank().prompts = {e.id: (e.split, e.category, e.prompt) for e in entries}


def fill_form(page: Page, **fields) -> None:
    """Puts values into the form's fields, as state.js names them."""
    page.evaluate("(fields) => import('/static/js/state.js').then((m) => m.change(fields))", fields)


def shown_job(page: Page, live) -> dict:
    """The job whose id is in the address."""
    page.wait_for_url(re.compile("#job="))
    return live.client.get(f"/api/v1/jobs/{page.url.split('#job=')[1]}").json()


SLOW_STEPS = 400


@contextlib.contextmanager
def slowed(live) -> Iterator[None]:
    """A job of `SLOW_STEPS` lasts longer than any check of it; the rest is then done at once."""
    live.pipe.step_seconds = 0.2
    try:
        yield
    finally:
        live.pipe.step_seconds = 0


@contextlib.contextmanager
def stopped(live) -> Iterator[None]:
    """What runs waits within a step, and nothing else begins."""
    live.pipe.go.clear()
    time.sleep(0.5)  # longer than a step
    try:
        yield
    finally:
        live.pipe.go.set()


def wait_done(page: Page, live) -> dict:
    """Waits until the page shows its job as done."""
    expect(page.locator(".job")).to_have_attribute("data-status", "done", timeout=30_000)
    return shown_job(page, live)


def generate(page: Page, live) -> dict:
    """Presses the button and waits for the result."""
    page.locator("#generate").click()
    return wait_done(page, live)


def generate_next(page: Page, live) -> dict:
    """`generate` where a job is shown already."""
    before = page.url
    page.locator("#generate").click()
    page.wait_for_url(lambda url: url != before)
    return wait_done(page, live)


def choose_source(page: Page, pixels: np.ndarray) -> None:
    """Chooses a source picture, and waits until the page has it."""
    with page.expect_response("**/api/v1/inputs"):
        page.set_input_files("#source-file", [png_bytes(pixels, "source.png")])
    expect(page.locator(".source-actions")).to_be_attached()


def drop(page: Page, live, image: dict) -> None:
    """Drops a result's PNG on the page."""
    drop_file(page, live.client.get(image["url"]).content)


def drop_file(page: Page, data: bytes) -> None:
    """Drops a PNG on the page."""
    page.evaluate(
        """bytes => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
          for (const type of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(type, {dataTransfer, bubbles: true}));
        }""",
        list(data),
    )


def paste(page: Page, pixels: np.ndarray) -> None:
    """Pastes a picture."""
    page.evaluate(
        """bytes => {
          const files = new DataTransfer();
          files.items.add(new File([new Uint8Array(bytes)], "pasted.png", {type: "image/png"}));
          dispatchEvent(new ClipboardEvent("paste", {clipboardData: files, bubbles: true}));
        }""",
        list(png_bytes(pixels, "x.png")["buffer"]),
    )


def drag(page: Page, *points: tuple[float, float]) -> None:
    """Draws a line on the mask's canvas through points, in parts of its width and height."""
    canvas = page.locator("#mask-canvas")
    canvas.hover()  # waits until the dialog has come to rest
    box = canvas.bounding_box()
    (x, y), *rest = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()


def png_bytes(pixels: np.ndarray, name: str) -> dict:
    """A file for Playwright."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": out.getvalue()}


def fetch_picture(live, image: dict) -> np.ndarray:
    """A result's pixels."""
    with Image.open(io.BytesIO(live.client.get(image["url"]).content)) as picture:
        return np.asarray(picture)


def mask_of(live, job: dict) -> np.ndarray:
    """The mask a job was sent with."""
    return fetch_picture(live, {"url": f"/api/v1/images/{job['request']['mask']}.png"})
