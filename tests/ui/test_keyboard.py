"""The whole main flow by keyboard alone."""

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.helpers import at_rest, mask_of, wait_done

STOPS = 120  # places for the focus, at most, between one thing and another


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    """Nothing is clicked or tapped on it."""
    page.add_init_script(
        "addEventListener('pointerdown', () => { window.pointed = true }, {capture: true})"
    )
    page.reload()
    expect(page.locator("#generate")).to_be_visible()
    yield page
    assert not page.evaluate("window.pointed")


def reach(page: Page, wanted: Locator, key: str = "Tab") -> None:
    """Presses a key until the focus is there."""
    is_focused = "e => e === document.activeElement"
    for _ in range(STOPS):
        if wanted.evaluate(is_focused):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{wanted} is not reached")


def press(page: Page, wanted: Locator, key: str = "Tab") -> None:
    """Goes to a button and presses it."""
    reach(page, wanted, key)
    page.keyboard.press("Enter")


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def make(page: Page, live) -> dict:
    """Sends the form from wherever the focus is, and waits for the result."""
    before = page.url
    page.keyboard.press("Control+Enter")
    page.wait_for_url(lambda url: url != before)
    return wait_done(page, live)


def test_from_a_prompt_to_pictures_compared_reused_and_deleted(page: Page, live):
    keyboard, prompt = page.keyboard, page.get_by_label("Prompt", exact=True)
    keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the prompt")).to_be_focused()
    keyboard.press("Enter")
    expect(prompt).to_be_focused()
    keyboard.type("a calm lake at dawn")
    reach(page, page.get_by_label("Negative prompt"))
    keyboard.type("fog")
    reach(page, page.get_by_label("Steps, exactly"))
    keyboard.type("7")
    reach(page, page.get_by_label("Solver"))
    keyboard.type("Heun")
    reach(page, page.get_by_role("radio", name="EMA"))
    keyboard.press("ArrowRight")
    first = make(page, live)
    wanted = {"prompt": "a calm lake at dawn", "negative_prompt": "fog", "weights": "raw"}
    wanted |= {"num_inference_steps": 7, "solver": "heun"}
    assert wanted.items() <= first["request"].items()
    make(page, live)

    keyboard.press("g")
    expect(page.get_by_label("Search prompts")).to_be_focused()
    tiles, viewer = page.locator(".thumbs .tile"), page.get_by_role("dialog")
    reach(page, tiles.first)
    keyboard.press("Enter")
    favourite = button(viewer, "Favourite")
    keyboard.press("f")
    expect(favourite).to_have_attribute("aria-pressed", "true")
    press(page, favourite)
    expect(favourite).to_have_attribute("aria-pressed", "false")
    keyboard.press("ArrowRight")
    keyboard.press("+")
    keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(tiles.first).to_be_focused()

    for key in ("x", "ArrowRight", "x"):
        keyboard.press(key)
    press(page, page.get_by_role("toolbar").get_by_role("button", name="Compare"), "Shift+Tab")
    slider = viewer.get_by_role("slider")
    press(page, button(viewer, "Slider"))
    reach(page, slider)
    keyboard.press("ArrowLeft")
    expect(slider).to_have_value("49.5")
    keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.get_by_role("toolbar").get_by_role("button", name="Compare")).to_be_focused()
    keyboard.press("Escape")
    expect(page.get_by_role("toolbar")).to_have_count(0)

    expect(tiles.nth(1)).to_be_focused()
    keyboard.press("Delete")
    expect(page.get_by_text("1 picture deleted.")).to_be_visible()
    expect(tiles).to_have_count(1)
    expect(tiles.first).to_be_focused()
    keyboard.press("Control+z")
    expect(tiles).to_have_count(2)
    expect(prompt).to_have_value("a calm lake at dawn")

    expect(tiles.first).to_be_focused()
    keyboard.press("End")
    keyboard.press("Enter")
    press(page, button(viewer, "Reuse settings"))
    expect(page.locator("dialog")).to_have_count(0)
    expect(tiles.nth(1)).to_be_focused()
    expect(page.locator("#f-seed")).to_have_value(str(first["images"][0]["seed"]))
    again = make(page, live)
    assert again["images"][0]["sha256"] == first["images"][0]["sha256"]


def test_from_a_picture_to_a_painted_mask_and_its_result(page: Page, live):
    keyboard, prompt = page.keyboard, page.get_by_label("Prompt", exact=True)
    live.finished(live.submit(prompt="a lake", seed=1)["id"])
    page.reload()
    tiles, editor = page.locator(".thumbs .tile"), page.get_by_role("dialog")
    expect(tiles).to_have_count(1)
    reach(page, tiles.first)
    keyboard.press("Enter")
    press(page, button(page.get_by_role("dialog"), "In-paint"))
    canvas, told = page.locator("#mask-canvas"), page.locator(".mask-editor .dialog-head .hint")
    reach(page, canvas)
    at_rest(page)
    keyboard.press("Space")
    expect(told).to_have_text("1% painted")
    keyboard.press("e")
    keyboard.press("Space")
    expect(told).to_have_text("0% painted")
    keyboard.press("Control+z")
    keyboard.press("b")
    for key in ("]", "]", "Shift+ArrowRight", "Shift+ArrowRight", "Space"):
        keyboard.press(key)
    expect(told).to_have_text("3% painted")
    press(page, button(editor, "Done"), "Shift+Tab")
    expect(page.locator("dialog")).to_have_count(0)
    expect(tiles.first).to_be_focused()

    page.keyboard.press("/")
    expect(prompt).to_be_focused()
    keyboard.type("a volcano")
    job = make(page, live)
    assert (job["kind"], job["request"]["prompt"]) == ("inpaint", "a volcano")
    mask = mask_of(live, job)
    side = len(mask)
    assert mask[side // 2, side // 2] == 255
    assert mask[side // 2, int(0.66 * side)] == 255
    assert np.mean(mask > 0) < 0.06
