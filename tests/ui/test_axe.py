"""Every view and every dialog at four widths, light and dark: axe-core finds nothing, all fits."""

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.ui.helpers import (
    PHONE,
    PROMPTS,
    fill_bank,
    fill_form,
    fill_gallery,
    generate,
    generate_next,
    violations,
)

Opener = Callable[..., Iterator[None]]
VIEWS: list[Opener] = []
"""What is looked at, in this order: opens a view, yields, closes it."""

STROKE = {"op": "stroke", "erase": False, "size": 0.2, "points": [0.1, 0.5, 1, 0.7, 0.5, 1]}


def view(opener: Opener) -> Opener:
    VIEWS.append(opener)
    return opener


def button(page: Page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def tiles(page: Page):
    return page.locator(".thumbs .tile")


def close(page: Page) -> None:
    """Closes the dialog that is open."""
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)


def pictures(live) -> list[dict]:
    """The pictures of the gallery, as the form has them."""
    found = live.client.get("/api/v1/images").json()["images"]
    return [{name: image[name] for name in ("id", "url", "width", "height")} for image in found]


@view
def first_visit(page, live):
    expect(button(page, "Make this picture")).to_be_visible()
    yield
    fill_gallery(live)
    fill_bank(live)
    page.reload()


@view
def gallery(page, live):
    expect(tiles(page)).to_have_count(len(PROMPTS))
    yield


@view
def nothing_found(page, live):
    page.get_by_label("Search prompts").fill("no such thing")
    expect(page.locator(".gallery .note")).to_be_visible()
    yield
    page.get_by_label("Search prompts").fill("")
    expect(tiles(page)).to_have_count(len(PROMPTS))


@view
def chosen_pictures(page, live):
    button(page, "Select pictures").click()
    for i in (0, 1):
        tiles(page).nth(i).click()
    yield
    button(page, "Done").click()


@view
def comparison(page, live):
    button(page, "Select pictures").click()
    for i in (0, 1):
        tiles(page).nth(i).click()
    page.get_by_role("toolbar").get_by_role("button", name="Compare").click()
    dialog = page.get_by_role("dialog", name="Compare two pictures")
    dialog.get_by_role("button", name="Slider").click()
    yield


@view
def comparison_side_by_side(page, live):
    page.get_by_role("dialog").get_by_role("button", name="Side by side").click()
    yield
    close(page)
    button(page, "Done").click()


@view
def viewer(page, live):
    tiles(page).first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    yield


@view
def viewer_enlarged(page, live):
    page.keyboard.press("+")
    expect(page.locator("[data-zoomed=true]")).to_be_visible()
    yield


@view
def whole_screen(page, live):
    button(page, "Full screen").click()
    page.wait_for_function("() => document.fullscreenElement !== null")
    yield
    page.keyboard.press("w")
    page.wait_for_function("() => document.fullscreenElement === null")


@view
def viewer_after_a_deletion(page, live):
    page.keyboard.press("Delete")
    expect(page.get_by_text("1 picture deleted.")).to_be_visible()
    yield
    button(page, "Undo").click()
    expect(tiles(page)).to_have_count(len(PROMPTS))
    close(page)


@view
def random_prompts(page, live):
    button(page, "Random prompt options").click()
    yield
    button(page, "Random prompt options").click()


@view
def match(page, live):
    page.get_by_label("Prompt", exact=True).fill("a lake at dawn")
    button(page, "Match").click()
    expect(page.locator(".candidates button").first).to_be_visible()
    page.get_by_label("Temperature").fill("1")
    page.locator(".candidates button").nth(1).click()
    expect(button(page, "Undo")).to_be_visible()
    yield
    button(page, "Close the list of matches").click()


@view
def styles(page, live):
    button(page, "Styles").click()
    for name in ("ink", ""):
        button(page, "New style").click()
        page.get_by_label("Style name").fill(name)
        page.get_by_label("Text for the prompt").fill("ink drawing of {prompt}")
        button(page, "Save").click()
        if name:
            page.locator(".styles li button").first.click()
    expect(page.get_by_text("Enter a name.")).to_be_visible()
    yield
    button(page, "Remove style ink").click()
    button(page, "Styles").click()


@view
def prompt_file(page, live):
    lines = b"a lake\na volcano at sunset\n"
    file = {"name": "prompts.txt", "mimeType": "text/plain", "buffer": lines}
    page.set_input_files("#prompt-file", [file])
    expect(button(page, "Queue 2 jobs")).to_be_visible()
    yield
    button(page, "Close").click()


@view
def wrong_prompt(page, live):
    page.get_by_label("Prompt", exact=True).fill("a (lake:9)")
    expect(page.locator(".tokens-problem")).to_be_visible()
    yield
    page.get_by_label("Prompt", exact=True).fill("a lake")


@view
def presets(page, live):
    page.get_by_text("Presets").click()
    yield
    page.get_by_text("Presets").click()


def settings(name: str, **fields) -> None:
    """Adds a view of all settings of a kind of job."""

    def opener(page, live):
        picture = pictures(live)[0]
        fill_form(page, image=picture, autoguidance_model="demo", upscale=2, **fields)
        disclosure = button(page, "Settings")
        if disclosure.get_attribute("aria-expanded") == "false":
            disclosure.click()
        advanced = page.locator("details.advanced")
        if advanced.count() and not advanced.evaluate("e => e.open"):
            advanced.locator("summary").click()
        yield

    opener.__name__ = f"settings_of_{name}"
    view(opener)


WIDE = {"width": 160, "height": 96}
settings("text", mode="txt2img", solver="ddim", guidance_interval=[0.2, 0.9])
settings("image", mode="img2img", inversion="ddim", apg_norm_threshold=10, **WIDE)
settings("mask", mode="inpaint", mask=[STROKE], inpaint_area="only_masked", **WIDE)
settings("outpainting", mode="inpaint", region="outpaint", outpaint=[32, 0, 0, 500])
settings("anagram", mode="anagram", width=None, height=None)
settings("upscaling", mode="upscale")


@view
def wrong_fields(page, live):
    fill_form(page, mode="inpaint", image=None, num_inference_steps=0, guidance_interval=[2, 0.5])
    page.locator("#generate").click()
    expect(page.locator("#e-num_inference_steps")).to_be_visible()
    expect(page.locator("#e-image")).to_be_visible()
    yield
    page.get_by_role("button", name="Reset settings").click()
    fill_form(page, mode="txt2img", region="mask", outpaint=[0, 0, 0, 0], num_inference_steps=2)


@view
def sending_a_picture(page, live):
    fill_form(page, mode="img2img")
    held = []
    page.route("**/api/v1/inputs", lambda route: held.append(route))
    file = {"name": "a.png", "mimeType": "image/png"}
    file["buffer"] = live.client.get(pictures(live)[0]["url"]).content
    page.set_input_files("#source-file", [file])
    expect(page.get_by_text("Sending the picture…")).to_be_visible()
    yield
    held[0].continue_()
    expect(page.locator(".source-actions")).to_be_visible()
    page.unroute("**/api/v1/inputs")
    fill_form(page, mode="txt2img")


@view
def result(page, live):
    generate(page, live)
    yield


@view
def earlier_prompts(page, live):
    button(page, "Recent").click()
    yield
    button(page, "Recent").click()


@view
def results(page, live):
    fill_form(page, num_images=4)
    generate_next(page, live)
    yield
    fill_form(page, num_images=1)


@view
def edited(page, live):
    fill_form(page, mode="img2img", image=pictures(live)[0])
    generate_next(page, live)
    button(page, "Compare").click()
    yield


@view
def extended(page, live):
    fill_form(page, mode="inpaint", region="outpaint", outpaint=[32, 0, 0, 0])
    generate_next(page, live)
    button(page, "Compare").click()
    yield


@view
def anagram(page, live):
    readings = [{"prompt": "a lake", "view": view} for view in ("identity", "jigsaw")]
    fill_form(page, mode="anagram", anagram=readings)
    generate_next(page, live)
    page.locator(".anagram-readings button").nth(1).click()
    yield


@view
def upscaled(page, live):
    fill_form(page, mode="upscale")
    generate_next(page, live)
    expect(page.locator(".compare")).to_be_visible()
    yield
    fill_form(page, mode="txt2img")


@view
def viewer_of_an_edit(page, live):
    tiles(page).first.click()
    expect(page.get_by_role("dialog").locator(".compare")).to_be_visible()
    yield
    close(page)


@view
def grid_dialog(page, live):
    button(page, "X/Y grid").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Across: values").fill("2, x")
    dialog.get_by_role("button", name="Make").click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    yield
    dialog.get_by_label("Across: values").fill("2, 3")


@view
def grid(page, live):
    page.get_by_role("dialog").get_by_role("button", name="Make").click()
    expect(page.locator(".grid-view td img")).to_have_count(6)
    yield
    button(page, "Close grid").click()


@view
def running_and_queue(page, live):
    live.pipe.step_seconds = 0.05
    fill_form(page, num_inference_steps=400)
    page.locator("#generate").click()
    expect(page.locator("img.preview")).to_be_visible()
    live.pipe.go.clear()
    for count in (1, 2):
        page.locator("#generate").click()
        expect(page.locator(".others li")).to_have_count(count)
    button(page, "Pause").click()
    expect(button(page, "Resume")).to_be_visible()
    yield
    button(page, "Cancel all waiting jobs").click()
    button(page, "Resume").click()
    live.pipe.step_seconds = 0
    page.locator("#cancel").click()
    live.pipe.go.set()


@view
def cancelled(page, live):
    expect(button(page, "Try again")).to_be_visible()
    yield


@view
def failed(page, live):
    fill_form(page, prompt="!value", num_inference_steps=2)
    page.locator("#generate").click()
    expect(page.locator(".failure")).to_be_visible()
    yield
    fill_form(page, prompt="a lake")


@view
def mask_editor(page, live):
    fill_form(page, mode="inpaint", region="mask", image=pictures(live)[-1], mask=[], **WIDE)
    button(page, "Paint the mask").last.click()
    expect(page.locator("#mask-canvas")).to_be_visible()
    yield


@view
def mask_editor_with_paint_outside(page, live):
    fill_form(page, mask=[{**STROKE, "points": [0.5, 0.05, 1]}])
    expect(page.locator(".mask-editor .warning")).to_be_visible()
    yield
    close(page)
    fill_form(page, mode="txt2img", width=None, height=None)


@view
def history(page, live):
    button(page, "History").click()
    expect(page.locator(".history li").first).to_be_visible()
    yield
    close(page)


@view
def preferences(page, live):
    button(page, "Preferences").click()
    page.get_by_label("File names of downloads").fill("{nobody}")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    yield
    close(page)


@view
def bank(page, live):
    button(page, "Browse").click()
    dialog = page.get_by_role("dialog", name="Prompt bank")
    dialog.locator("li .icon-button").nth(2).click()
    expect(dialog.locator("[data-removed=true]")).to_have_count(1)
    dialog.get_by_text("Add a prompt").click()
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("alert").first).to_be_visible()
    yield
    close(page)


@view
def keys(page, live):
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    yield
    close(page)


@view
def login(page, live):
    page.evaluate("import('/static/js/state.js').then((m) => { m.dialog.value = {name: 'login'} })")
    page.get_by_label("API key").fill("a key")
    yield
    close(page)


@view
def drop_target(page, live):
    page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["x"], "a.png", {type: "image/png"}));
          document.body.dispatchEvent(new DragEvent("dragenter", {dataTransfer, bubbles: true}));
        }"""
    )
    expect(page.locator(".drop-target")).to_be_visible()
    yield
    page.reload()


@view
def offline(page, live):
    page.evaluate("import('/static/js/state.js').then((m) => { m.server.value = null })")
    expect(page.locator(".banner")).to_be_visible()
    yield


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440, 2560])
def test_axe_finds_nothing_and_all_fits(open_page, live, scheme, width):
    look = PHONE if width == 390 else {"viewport": {"width": width, "height": 1000}}
    page = open_page(color_scheme=scheme, **look)
    found, dialogs = {}, set()
    for opener in VIEWS:
        with contextlib.contextmanager(opener)(page, live):
            problems = violations(page)
            problems += page.evaluate(WIDE_PARTS)
            if problems:
                found[opener.__name__] = problems
            dialogs |= set(page.evaluate(OPEN))
    assert not found, json.dumps(found, indent=1)
    assert dialogs == set(page.evaluate(ALL))


WIDE_PARTS = """() => [...document.querySelectorAll("html, .composer-scroll, dialog")]
    .filter((e) => e.scrollWidth > e.clientWidth)
    .map((e) => `${e.tagName} ${e.className}: ${e.scrollWidth} > ${e.clientWidth}`)"""
OPEN = "import('/static/js/state.js').then((m) => m.dialog.value ? [m.dialog.value.name] : [])"
ALL = "import('/static/js/app.js').then((m) => Object.keys(m.DIALOGS))"
