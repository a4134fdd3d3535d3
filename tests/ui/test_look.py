"""How the page looks and reads: themes, widths, anagrams' views."""

import numpy as np
import pytest
from playwright.sync_api import expect

from dg2_jax.diffusion import views
from tests.ui.helpers import (
    PHONE,
    at_rest,
    choose_source,
    fill_bank,
    fill_gallery,
    generate,
    png_bytes,
    violations,
    wait_done,
)
from tests.ui.painter import paint


def test_dark_follows_the_system_and_the_switch(open_page, live):
    fill_gallery(live)
    page = open_page(color_scheme="dark")
    body = page.locator("body")
    expect(body).to_have_css("background-color", "rgb(17, 18, 17)")
    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    generate(page, live)
    page.get_by_role("button", name="Light").click()
    expect(body).to_have_css("background-color", "rgb(247, 246, 243)")
    page.reload()
    expect(body).to_have_css("background-color", "rgb(247, 246, 243)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(open_page, live, scheme):
    fill_gallery(live)
    fill_bank(live)
    page = open_page(color_scheme=scheme, **PHONE)

    def fits() -> bool:
        return page.evaluate("document.documentElement.scrollWidth") == 390

    assert fits()
    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    generate(page, live)
    expect(page.locator(".job-media img")).to_be_in_viewport()
    at_rest(page)
    assert fits()
    assert violations(page) == []
    page.get_by_role("button", name="Settings", exact=True).tap()
    for mode in ("Image", "In-paint", "Anagram", "Upscale"):
        page.get_by_role("radio", name=mode, exact=True).check()
        assert fits(), mode
    page.get_by_role("radio", name="In-paint", exact=True).check()
    page.get_by_role("radio", name="Around the picture").check()
    choose_source(page, paint("a lake at dawn", 3))
    expect(page.locator(".outpaint-canvas")).to_be_visible()
    assert fits()
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="Browse").tap()
    expect(page.locator(".bank-prompt").first).to_be_visible()
    assert fits()
    page.keyboard.press("Escape")
    page.locator(".thumbs .tile").first.tap()
    assert fits()
    page.get_by_role("dialog").get_by_role("button", name="In-paint").tap()
    box = page.locator("#mask-canvas").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_text("1% painted")).to_be_visible()
    assert fits()


def test_tablet(open_page, live):
    fill_gallery(live)
    page = open_page(viewport={"width": 900, "height": 1100}, color_scheme="dark")
    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    page.get_by_label("Pictures, exactly").fill("4")
    generate(page, live)
    assert page.evaluate("document.documentElement.scrollWidth") == 900


def test_everything_is_reached_by_keyboard(open_page, live):
    page = open_page()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    wanted = {"f-prompt", "f-negative_prompt", "f-num_inference_steps", "f-solver", "generate"}
    assert wanted <= seen
    page.get_by_role("button", name="Make this picture").focus()
    page.keyboard.press("Enter")
    wait_done(page, live)


@pytest.mark.parametrize("name", ["jigsaw", "patch_permutation", "inner_circle", "skew"])
def test_views_are_drawn_as_the_library_has_them(open_page, live, name):
    page = open_page()
    pixels = paint("a volcano at sunset", 5)
    data = list(png_bytes(pixels, "")["buffer"])
    drawn = page.evaluate(
        """async ([bytes, name]) => {
          const { drawView } = await import("/static/js/views.js");
          const image = new Image();
          image.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)], {type: "image/png"}));
          await image.decode();
          const canvas = document.createElement("canvas");
          drawView(canvas, image, name);
          return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
        }""",
        [data, name],
    )
    drawn = np.array(drawn, np.uint8).reshape(128, 128, 4)[..., :3]
    np.testing.assert_array_equal(drawn, views.apply_to_images(pixels[None], name)[0])
