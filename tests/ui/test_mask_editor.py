"""The mask editor: its tools, the crop frame, and what never loses strokes."""

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dg2_jax.pictures import image_input
from tests.ui.helpers import (
    PHONE,
    at_rest,
    choose_source,
    drag,
    generate,
    mask_of,
    paste,
    png_bytes,
)
from tests.ui.painter import paint

LAKE = paint("a lake at dawn", 3)
WIDTH = "document.querySelector('#mask-canvas').getBoundingClientRect().width"
WIDE = np.concatenate([LAKE, paint("a volcano at sunset", 3)], 1)


def status(page: Page):
    return page.locator(".mask-editor .dialog-head .hint")


@pytest.fixture
def editor(page: Page) -> Page:
    page.get_by_role("radio", name="In-paint", exact=True).check()
    choose_source(page, LAKE)
    expect(page.locator("#mask-canvas")).to_be_visible()
    return page


def made(page: Page, live) -> np.ndarray:
    """The mask that is sent."""
    page.get_by_role("button", name="Done").click()
    page.get_by_label("Prompt", exact=True).fill("a lake")
    return mask_of(live, generate(page, live))


def test_pasting_in_the_editor_keeps_picture_and_strokes(editor: Page):
    drag(editor, (0.3, 0.5), (0.7, 0.5))
    expect(status(editor)).to_contain_text("% painted")
    text, source = status(editor).inner_text(), editor.locator(".mask-stage img")
    url = source.get_attribute("src")
    paste(editor, paint("a volcano", 4))
    editor.wait_for_timeout(300)
    expect(status(editor)).to_have_text(text)
    expect(source).to_have_attribute("src", url)


def test_what_was_erased_is_not_repainted_at_its_rim(editor: Page, live):
    """Strokes crossed out by others leave no grey, neither at their rims nor between them."""
    drag(editor, (0.3, 0.3), (0.62, 0.47))
    drag(editor, (0.1, 0.8), (0.2, 0.8))  # stays
    editor.get_by_role("button", name="Eraser").click()
    for y in (0.18, 0.24, 0.3, 0.36, 0.42, 0.48, 0.54):
        drag(editor, (0.15, y), (0.75, y + 0.07))
    mask = made(editor, live)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[: int(0.65 * len(mask))].max() == 0
    assert mask[int(0.8 * len(mask)), int(0.15 * len(mask))] == 255


def test_lasso_and_rectangle_fill_and_take_away(editor: Page, live):
    editor.get_by_role("button", name="Rectangle").click()
    drag(editor, (0.1, 0.2), (0.9, 0.7))
    editor.get_by_role("button", name="Lasso").click()
    editor.keyboard.down("Alt")
    drag(editor, (0.3, 0.3), (0.5, 0.6), (0.7, 0.3))
    editor.keyboard.up("Alt")
    expect(editor.locator(".outline")).to_have_count(0)
    mask = made(editor, live)
    side = len(mask)
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    inside = np.stack([x - 0.1, 0.9 - x, y - 0.2, 0.7 - y]).min(0)
    left, right = (0.3 * (across - 0.3) - 0.2 * (y - 0.3) for across in (x, 1 - x))
    triangle = np.stack([y - 0.3, left, right])
    cut = triangle.min(0)
    assert (mask[(inside > 0.01) & (cut < -0.01)] == 255).all()
    assert (mask[(inside < -0.01) | (cut > 0.01)] == 0).all()


@pytest.mark.parametrize("kind", ["lightness", "opacity"])
def test_a_mask_comes_from_a_picture_file(editor: Page, live, kind):
    wanted = np.zeros((64, 64), np.uint8)
    wanted[10:30, 20:50] = 255
    rgba = np.dstack([wanted] * 3 + [np.full_like(wanted, 255)])
    if kind == "opacity":
        rgba = np.dstack([255 - wanted] * 3 + [wanted])
    editor.set_input_files("#mask-file", [png_bytes(rgba, "mask.png")])
    expect(status(editor)).to_have_text("15% painted")
    mask = made(editor, live)
    np.testing.assert_array_equal(mask, wanted.repeat(2, 0).repeat(2, 1))
    editor.get_by_role("button", name="Edit the mask").first.click()
    editor.set_input_files("#mask-file", [png_bytes(np.zeros((40, 64), np.uint8), "mask.png")])
    expect(
        editor.get_by_text("proportions of the picture, 128 × 128; this file has 64 × 40")
    ).to_be_visible()


def test_the_crop_frame_moves_and_paint_outside_is_told(page: Page, live):
    page.get_by_role("radio", name="In-paint", exact=True).check()
    choose_source(page, WIDE)
    drag(page, (0.05, 0.5), (0.15, 0.5))
    outside = page.locator(".mask-editor").get_by_text("lies outside the frame")
    expect(outside).to_be_visible()
    page.get_by_role("button", name="Move the crop frame").click()
    drag(page, (0.5, 0.5), (0.1, 0.5))
    expect(outside).to_have_count(0)
    page.locator("#mask-canvas").press("ArrowRight")
    page.locator("#mask-canvas").press("Shift+ArrowLeft")
    page.get_by_role("button", name="Done").click()
    slider = page.get_by_label("Part to keep")
    expect(slider).to_have_value("0")
    page.get_by_label("Prompt", exact=True).fill("a volcano")
    job = generate(page, live)
    assert job["request"]["crop_position"] == [0, 0.5]
    page.get_by_role("button", name="Reuse settings").click()
    slider.fill("1")
    expect(page.locator(".source").get_by_text("lies outside the frame")).to_be_visible()


@pytest.mark.parametrize("size", ["160 × 96", "96 × 160"])
def test_the_frame_is_what_the_library_keeps(page: Page, live, size):
    page.get_by_label("Size", exact=True).select_option(size)
    page.get_by_role("radio", name="Image", exact=True).check()
    choose_source(page, WIDE)
    page.get_by_label("Part to keep").fill("0.8")
    frame = page.locator(".source .crop-frame").bounding_box()
    whole = page.locator(".source .thumb img").bounding_box()
    width, height = (int(side) for side in size.split(" × "))
    crop = generate_crop(page, live)
    placed = image_input.fit((256, 128), (width, height), "crop", tuple(crop))
    left, top, right, bottom = placed.box
    scale = whole["width"] / 256
    found = [frame["x"] - whole["x"], frame["y"] - whole["y"], frame["width"], frame["height"]]
    wanted = [left, top, right - left, bottom - top]
    np.testing.assert_allclose(np.array(found) / scale, wanted, atol=2)
    page.get_by_text("Advanced").click()
    page.get_by_role("radio", name="Pad").check()
    expect(page.locator(".source .crop-frame")).to_have_count(0)
    expect(page.get_by_label("Part to keep")).to_have_count(0)


def generate_crop(page: Page, live) -> list[float]:
    page.get_by_label("Prompt", exact=True).fill("a lake")
    return generate(page, live)["request"]["crop_position"]


def test_zoom_and_fit_on_a_phone(open_page, live):
    page = open_page(**PHONE)
    page.get_by_role("radio", name="In-paint", exact=True).check()
    page.set_input_files("#source-file", [png_bytes(LAKE, "source.png")])
    canvas = page.locator("#mask-canvas")
    expect(canvas).to_be_visible()
    before = canvas.bounding_box()["width"]
    page.get_by_role("button", name="Zoom in").tap()
    page.wait_for_function(f"w => {WIDTH} > 1.3 * w", arg=before)
    page.get_by_role("button", name="Fit").tap()
    page.wait_for_function(f"w => {WIDTH} < 1.01 * w", arg=before)
    for name in ("Done", "Zoom out", "Lasso", "Undo"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_wheel_enlarges_around_the_pointer(editor: Page):
    canvas = editor.locator("#mask-canvas")
    canvas.hover()  # waits until the dialog has come to rest
    before = canvas.bounding_box()
    x, y = before["x"] + 0.25 * before["width"], before["y"] + 0.75 * before["height"]
    editor.mouse.move(x, y)
    editor.mouse.wheel(0, -500)
    editor.wait_for_function(f"w => {WIDTH} > 1.5 * w", arg=before["width"])
    after = canvas.bounding_box()
    assert after["x"] + 0.25 * after["width"] == pytest.approx(x, abs=1)
    assert after["y"] + 0.75 * after["height"] == pytest.approx(y, abs=1)
    editor.get_by_role("button", name="Move", exact=True).click()
    drag(editor, (0.25, 0.75), (0.3, 0.75))
    moved = canvas.bounding_box()["x"] - after["x"]
    assert moved == pytest.approx(0.05 * after["width"], abs=1)
    expect(status(editor)).to_have_text("Nothing painted yet")
    editor.keyboard.press("0")
    editor.wait_for_function(f"w => {WIDTH} < 1.01 * w", arg=before["width"])


def test_two_fingers_enlarge_and_paint_nothing(open_page):
    page = open_page(**PHONE)
    page.get_by_role("radio", name="In-paint", exact=True).check()
    page.set_input_files("#source-file", [png_bytes(LAKE, "source.png")])
    canvas = page.locator("#mask-canvas")
    expect(canvas).to_be_visible()
    at_rest(page)
    before = canvas.bounding_box()
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 30), ("touchMove", 60), ("touchMove", 90)):
        points = [{"x": x + sign * apart, "y": y, "id": i} for i, sign in enumerate((-1, 1))]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function(f"w => {WIDTH} > 2 * w", arg=before["width"])
    after = canvas.bounding_box()
    assert after["x"] + after["width"] / 2 == pytest.approx(x, abs=3)
    expect(status(page)).to_have_text("Nothing painted yet")
