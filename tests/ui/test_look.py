"""How the page looks and reads: themes, widths, and what axe-core finds."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dg2_jax.bank.builder import read_prompts
from dg2_jax.diffusion import views
from tests.ui.helpers import at_rest, choose_source, generate, generate_next, png_bytes, wait_done
from tests.ui.painter import paint

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
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
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def serious(page: Page) -> list[str]:
    """What axe-core calls serious or critical, in short."""
    at_rest(page)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:200]} ({len(v['nodes'])})"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def fill_gallery(live) -> None:
    for i, prompt in enumerate(PROMPTS):
        live.finished(live.submit(prompt=prompt, seed=i + 3, num_inference_steps=1)["id"])


def fill_bank(live) -> None:
    """The prompts that ship."""
    entries = read_prompts()
    live.context.bank().prompts = {e.id: (e.split, e.category, e.prompt) for e in entries}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, live, scheme):
    fill_gallery(live)
    page = open_page(color_scheme=scheme)
    assert serious(page) == []
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.get_by_role("button", name="Match", exact=True).click()
    expect(page.locator(".candidates button").first).to_be_visible()
    page.get_by_text("Advanced").click()
    generate(page, live)
    page.get_by_label("Steps, exactly").fill("0")
    page.locator("#generate").click()
    assert serious(page) == []
    page.get_by_label("Steps, exactly").fill("3")
    page.locator(".thumbs .tile").first.click()
    assert serious(page) == []
    page.get_by_role("dialog").get_by_role("button", name="In-paint").click()
    expect(page.locator("#mask-canvas")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Done").click()
    page.get_by_role("radio", name="Anagram", exact=True).check()
    assert serious(page) == []
    for i in (1, 2):
        page.get_by_label(f"Reading {i}", exact=True).fill("a lake")
    generate(page, live)
    page.get_by_role("button", name="X/Y grid").click()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("?")
    assert serious(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_outpainting_and_the_bank(open_page, live, scheme):
    fill_bank(live)
    page = open_page(color_scheme=scheme)
    page.get_by_role("radio", name="In-paint", exact=True).check()
    page.get_by_role("radio", name="Around the picture").check()
    choose_source(page, paint("a lake", 3))
    page.get_by_text("Advanced").click()
    page.get_by_role("switch", name="Guide at some noise levels only").check()
    page.get_by_label("Left", exact=True).fill("500")
    page.get_by_label("From", exact=True).fill("2")
    page.locator("#generate").click()
    expect(page.locator("#e-outpaint")).to_be_visible()
    expect(page.locator("#e-guidance_interval")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Browse").click()
    bank = page.get_by_role("dialog", name="Prompt bank")
    bank.locator("li .icon-button").nth(2).click()
    expect(bank.locator("[data-removed=true]")).to_have_count(1)
    bank.get_by_text("Add a prompt").click()
    bank.get_by_role("button", name="Add", exact=True).click()
    assert serious(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_every_other_state(open_page, live, scheme):
    live.pipe.step_seconds = 0.05
    page = open_page(color_scheme=scheme)
    page.get_by_role("button", name="Random prompt options").click()
    page.get_by_text("Presets").click()
    assert serious(page) == []
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.get_by_label("Steps, exactly").fill("400")
    page.locator("#generate").click()
    expect(page.locator("img.preview")).to_be_visible()
    assert serious(page) == []
    page.locator("#cancel").click()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert serious(page) == []
    live.pipe.step_seconds = 0
    page.get_by_label("Steps, exactly").fill("3")
    page.get_by_label("Prompt", exact=True).fill("!value")
    page.locator("#generate").click()
    expect(page.locator(".failure")).to_be_visible()
    assert serious(page) == []
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.get_by_role("button", name="X/Y grid").click()
    page.get_by_role("dialog").get_by_role("button", name="Make").click()
    expect(page.locator(".grid-view td img")).to_have_count(9)
    page.get_by_label("Search prompts").fill("nothing like it")
    expect(page.locator(".gallery .note")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("radio", name="Upscale", exact=True).check()
    choose_source(page, paint("a lake", 3))
    generate_next(page, live)
    expect(page.locator(".compare")).to_be_visible()
    assert serious(page) == []


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
    assert serious(page) == []
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
    expect(page.get_by_text("1 % painted")).to_be_visible()
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
