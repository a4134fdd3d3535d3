"""The picture that is open: swiped, enlarged, on the whole screen, deleted and given back."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.ui.helpers import PHONE, at_rest, choose_source, fill_gallery, generate, violations
from tests.ui.painter import paint

LONG = "a calm lake under a clear sky, " * 100  # 3,100 characters


@pytest.fixture
def gallery(open_page, live) -> Page:
    """A desktop's page with nine pictures, the newest open."""
    fill_gallery(live)
    page = open_page()
    page.locator(".thumbs .tile").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    at_rest(page)  # the dialog rises
    return page


def title(page: Page):
    return page.get_by_role("dialog").get_by_role("heading")


def swipe(page: Page, x: float) -> None:
    """One finger across the picture, by x pixels."""
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        told = [{"x": at, "y": y, "id": i} for i, (at, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

    touch("touchStart", (200, 250))
    for share in (0.25, 0.5, 0.75, 1, 1):
        touch("touchMove", (200 + share * x, 250))
        page.wait_for_timeout(60)  # it comes to rest, or the next tap would only end the fling
    touch("touchEnd")


def zoom_of(page: Page) -> float:
    text = page.locator(".zoom-scale").inner_text()
    return int(re.sub(r"\D", "", text)) / 100


def expect_zoom(page: Page, scale: float) -> None:
    expect(page.locator(".zoom-scale")).to_have_text(f"{100 * scale:.0f}%")


def test_a_phone_swipes_and_has_arrows(open_page, live):
    fill_gallery(live)
    page = open_page(**PHONE)
    page.locator(".thumbs .tile").first.tap()
    expect(title(page)).to_have_text("a snowy mountain at dusk")
    swipe(page, -150)
    expect(title(page)).to_have_text("a bamboo grove in the rain")
    swipe(page, 150)
    expect(title(page)).to_have_text("a snowy mountain at dusk")
    page.get_by_role("button", name="Next picture").tap()
    expect(title(page)).to_have_text("a bamboo grove in the rain")
    page.get_by_role("button", name="Previous picture").tap()
    expect(title(page)).to_have_text("a snowy mountain at dusk")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert violations(page) == []


def test_two_fingers_enlarge_on_a_phone(open_page, live):
    fill_gallery(live)
    page = open_page(**PHONE)
    page.locator(".thumbs .tile").first.tap()
    expect(title(page)).to_be_visible()
    at_rest(page)  # the dialog rises
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 30), ("touchMove", 60), ("touchMove", 90)):
        points = [{"x": 195 + sign * apart, "y": 200, "id": sign} for sign in (1, 2)]
        points[0]["x"] = 195 - apart
        points[1]["x"] = 195 + apart
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert 2 < zoom_of(page) < 4
    swipe(page, -150)  # moves the picture, and is no step to the next
    expect(title(page)).to_have_text("a snowy mountain at dusk")


@pytest.mark.parametrize("look", [{}, PHONE], ids=["desktop", "phone"])
def test_long_texts_scroll_in_their_boxes(open_page, live, look):
    job = live.submit(prompt=LONG, negative_prompt=LONG, seed=3, num_inference_steps=1)
    live.finished(job["id"])
    page = open_page(f"/#job={job['id']}", **look)
    for opens in (lambda: None, lambda: page.locator(".thumbs .tile").click()):
        opens()
        side = page.locator(".viewer-side" if page.get_by_role("dialog").count() else ".job-side")
        boxes = side.locator(".scrolls[tabindex]")
        for box in boxes.all():
            assert box.evaluate("e => e.scrollHeight > e.clientHeight")
            assert box.evaluate("e => e.scrollWidth == e.clientWidth")
            height = page.viewport_size["height"]
            assert box.bounding_box()["height"] <= 0.31 * height
        expect(side.locator(".facts").first).to_be_visible()
        assert violations(page) == []
    assert boxes.count() == 2


def test_wheel_keys_and_buttons_enlarge(gallery):
    page = gallery
    picture = page.locator(".viewer .picture img")
    before = picture.bounding_box()
    corner = before["x"] + 10, before["y"] + 10
    page.mouse.move(*corner)
    page.mouse.wheel(0, -800)
    expect(page.locator(".zoomable")).to_have_attribute("data-zoomed", "true")
    after = picture.bounding_box()
    scale = after["width"] / before["width"]
    assert scale == pytest.approx(zoom_of(page), rel=0.01)
    # What was under the pointer stays under it.
    assert after["x"] + 10 * scale == pytest.approx(corner[0], abs=1)
    assert after["y"] + 10 * scale == pytest.approx(corner[1], abs=1)
    page.mouse.down()
    page.mouse.move(corner[0] + 40, corner[1] + 25, steps=4)
    page.mouse.up()
    moved = picture.bounding_box()
    found = [moved["x"] - after["x"], moved["y"] - after["y"]]
    np.testing.assert_allclose(found, [40, 25], atol=1)
    page.keyboard.press("0")
    assert picture.bounding_box() == before
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect_zoom(page, 2.25)
    page.get_by_role("button", name="Zoom out").click()
    expect_zoom(page, 1.5)
    page.keyboard.press("ArrowRight")
    expect_zoom(page, 1)
    picture.dblclick()
    expect_zoom(page, 2.25)


def test_the_whole_screen_is_the_picture(gallery):
    page = gallery
    page.get_by_role("button", name="Full screen").click()
    expect(page.locator(".viewer-side")).to_be_hidden()
    page.wait_for_function("() => document.fullscreenElement !== null")
    picture = page.locator(".viewer .picture img").bounding_box()
    assert picture["height"] == page.evaluate("innerHeight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".viewer .picture img")).to_have_attribute("alt", re.compile("bamboo"))
    page.keyboard.press("w")
    expect(page.locator(".viewer-side")).to_be_visible()
    page.wait_for_function("() => document.fullscreenElement === null")


def test_after_a_deletion_comes_the_next_picture_and_it_can_be_undone(gallery, live):
    page = gallery
    viewer = page.get_by_role("dialog")
    viewer.get_by_role("button", name="Delete").click()
    expect(title(page)).to_have_text("a bamboo grove in the rain")
    expect(page.locator(".thumbs .tile")).to_have_count(8)
    assert len(live.client.get("/api/v1/images").json()["images"]) == 8
    viewer.get_by_role("button", name="Undo").click()
    expect(viewer.get_by_text("1 picture restored.")).to_be_visible()
    expect(page.locator(".thumbs .tile").first).to_have_attribute(
        "aria-label", re.compile("a snowy mountain at dusk")
    )
    page.keyboard.press("Delete")
    expect(title(page)).to_have_text("a red canyon in the evening sun")
    page.keyboard.press("Control+z")
    expect(page.locator(".thumbs .tile")).to_have_count(9)
    page.reload()
    expect(page.locator(".thumbs .tile")).to_have_count(9)


def test_deleting_the_last_picture_closes_the_viewer(open_page, live):
    live.finished(live.submit(prompt="a lake", seed=1)["id"])
    page = open_page()
    page.locator(".thumbs .tile").click()
    page.keyboard.press("Delete")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".thumbs .tile")).to_have_count(1)


def test_a_deleted_picture_leaves_the_stage(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.get_by_label("Pictures, exactly").fill("2")
    generate(page, live)
    expect(page.locator(".tiles .tile")).to_have_count(2)
    for left in (1, 0):
        page.locator(".thumbs .tile").first.click()
        page.keyboard.press("Delete")
        page.keyboard.press("Escape")
        expect(page.locator(".job-media .tile")).to_have_count(left)
    expect(page.get_by_text("Its pictures were deleted.")).to_be_visible()


def test_details_tell_every_setting_that_is_not_the_default(open_page, live):
    fields = {
        "num_inference_steps": 7,
        "guidance_rescale": 0.3,
        "apg_momentum": -0.45,
        "guidance_interval": [0.2, 0.8],
        "spacing": "trailing",
        "variation_strength": 0.25,
        "preview_mode": "none",
    }
    live.finished(live.submit(prompt="a lake", seed=1, **fields)["id"])
    page = open_page()
    page.locator(".thumbs .tile").click()
    told = page.locator(".viewer .facts").inner_text().split("\n")
    pairs = dict(zip(told[::2], told[1::2], strict=True))
    wanted = {
        "Seed": "1",
        "Steps": "7",
        "Guidance rescale": "0.3",
        "Projected guidance: momentum": "-0.45",
        "Guide only at some noise levels": "0.2, 0.8",
        "Step spacing": "Trailing",
        "Variation strength": "0.25",
    }
    assert wanted.items() <= pairs.items()
    usual = {"Guidance", "Solver", "Weights", "Model", "Size", "Made"}
    assert set(pairs) == set(wanted) | usual


@pytest.mark.parametrize(("part", "kept"), [("Prompt", "seed"), ("Seed", "prompt")])
def test_one_part_of_a_picture_is_used_alone(open_page, live, part, kept):
    job = live.submit(prompt="a volcano", negative_prompt="fog", seed=77, width=160, height=96)
    live.finished(job["id"])
    page = open_page()
    prompt, seed = page.get_by_label("Prompt", exact=True), page.locator("#f-seed")
    prompt.fill("mine")
    page.get_by_role("button", name="Pick a random seed").click()
    page.get_by_label("Steps, exactly").fill("9")
    before = {"seed": seed.input_value(), "prompt": "mine"}
    page.locator(".thumbs .tile").click()
    page.get_by_role("group", name="Use only its").get_by_role("button", name=part).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    after = {"seed": seed.input_value(), "prompt": prompt.input_value()}
    assert after == {"seed": "77", "prompt": "a volcano", kept: before[kept]}
    expect(page.get_by_label("Steps, exactly")).to_have_value("9")


def test_the_size_of_a_picture_is_used_alone(open_page, live):
    live.finished(live.submit(prompt="a volcano", seed=7, width=160, height=96)["id"])
    page = open_page()
    page.locator(".thumbs .tile").click()
    page.get_by_role("group", name="Use only its").get_by_role("button", name="Size").click()
    expect(page.get_by_label("Size", exact=True)).to_have_value(re.compile("160.×.96"))
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("")


def test_change_it_brings_the_prompts_of_the_picture(open_page, live):
    live.finished(live.submit(prompt="a volcano", negative_prompt="fog", seed=7)["id"])
    page = open_page()
    page.get_by_label("Prompt", exact=True).fill("something else")
    page.locator(".thumbs .tile").click()
    page.get_by_role("dialog").get_by_role("button", name="Change it").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a volcano")
    expect(page.get_by_label("Negative prompt")).to_have_value("fog")


def test_variations_keep_the_seed_and_differ_by_the_variation_seed(open_page, live):
    made = live.finished(live.submit(prompt="a volcano", seed=7, num_inference_steps=3)["id"])
    page = open_page()
    page.locator(".thumbs .tile").click()
    page.get_by_role("dialog").get_by_role("button", name="Variations").click()
    expect(page.locator(".grid-view td img")).to_have_count(4)
    jobs = live.client.get("/api/v1/jobs").json()["jobs"][:4]
    asked = [job["request"] for job in jobs]
    assert len({request["variation_seed"] for request in asked}) == 4
    unlike = {"variation_seed", "variation_strength"}
    for request in asked:
        assert request["variation_strength"] == 0.2
        changed = {k for k, v in made["request"].items() if request[k] != v}
        assert changed == unlike


def test_a_phone_shows_what_comes_of_a_button(open_page, live):
    live.finished(live.submit(prompt="a volcano", seed=7, num_inference_steps=3)["id"])
    page = open_page(**PHONE)
    for name, shown in (("Variations", ".grid-view h2"), ("Reuse settings", "#f-prompt")):
        page.locator(".gallery").evaluate("e => e.scrollIntoView()")
        page.locator(".thumbs .tile").last.tap()
        page.get_by_role("dialog").get_by_role("button", name=name).tap()
        expect(page.locator(shown)).to_be_in_viewport()


def test_an_edit_is_compared_and_enlarged(page: Page, live):
    page.get_by_role("radio", name="Image", exact=True).check()
    choose_source(page, paint("a lake at dawn", 3))
    page.get_by_label("Prompt", exact=True).fill("a snowy mountain")
    generate(page, live)
    page.locator(".thumbs .tile").click()
    viewer = page.get_by_role("dialog")
    viewer.get_by_role("button", name="Compare").click()
    slider = viewer.get_by_role("slider")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + 20)
    assert 20 < float(slider.input_value()) < 30  # the slider has the pointer, not the zoom
    page.keyboard.press("+")
    expect_zoom(page, 1.5)
