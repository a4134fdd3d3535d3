"""Every feature of the page, as its user meets it."""

import json
import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dg2_jax.checks import ParameterError
from dg2_jax.models.folder import EMBEDDED
from dg2_jax.serve.disk import FULL, Disk
from dg2_jax.settings import Settings
from dg2_jax.text.loading import load_text_encoder
from tests.serve.live import LiveServer, quiet
from tests.tiny_model import FAST
from tests.ui.helpers import (
    SLOW_STEPS,
    choose_source,
    drag,
    drop,
    fetch_picture,
    generate,
    generate_next,
    mask_of,
    paste,
    shown_job,
    slowed,
    stopped,
    wait_done,
)
from tests.ui.painter import ScenePipeline, paint


def test_first_visit_offers_a_prompt_and_one_button(page: Page, live):
    page.get_by_role("button", name="Make this picture").click()
    job = wait_done(page, live)
    assert job["request"]["prompt"] == "a volcano at sunset"
    picture = page.locator(".job-media img")
    expect(picture).to_have_attribute("alt", f"a volcano at sunset, seed {job['request']['seed']}")
    got = fetch_picture(live, job["images"][0])
    np.testing.assert_array_equal(got, paint("a volcano at sunset", job["request"]["seed"]))


def test_txt2img_sends_every_setting(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a waterfall in spring")
    page.get_by_label("Negative prompt").fill("people")
    page.get_by_label("Steps, exactly").fill("7")
    page.get_by_label("Guidance, exactly").fill("3.5")
    page.get_by_label("Pictures, exactly").fill("3")
    page.get_by_label("Solver").select_option("Heun")
    page.get_by_role("radio", name="Raw").check()
    page.get_by_role("button", name="Keep this seed").click()
    page.locator("#f-seed").fill("41")
    job = generate(page, live)
    wanted = {
        "kind": "txt2img",
        "prompt": "a waterfall in spring",
        "negative_prompt": "people",
        "num_inference_steps": 7,
        "guidance_scale": 3.5,
        "num_images": 3,
        "solver": "heun",
        "weights": "raw",
        "seed": 41,
    }
    assert wanted.items() <= job["request"].items()
    assert [image["seed"] for image in job["images"]] == [41, 42, 43]
    expect(page.locator(".tiles .tile img")).to_have_count(3)


def test_preview_and_progress_appear_during_the_run(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    page.get_by_label("Steps, exactly").fill(str(SLOW_STEPS))
    preview = page.locator("img.preview")
    with slowed(live):
        page.locator("#generate").click()
        expect(preview).to_be_visible()
        assert shown_job(page, live)["status"] == "running"
        text = re.compile(rf"Step \d+ of {SLOW_STEPS} · .* left")
        expect(page.locator(".progress-text")).to_have_text(text)
        first = int(preview.get_attribute("data-step"))
        bar = page.get_by_role("progressbar", name="Progress")
        expect(bar).not_to_have_attribute("aria-valuenow", "0")
        page.wait_for_function(
            "n => +document.querySelector('img.preview').dataset.step > n", arg=first
        )
    wait_done(page, live)
    expect(preview).to_have_count(0)


def test_queue_position_and_cancel_of_the_right_job(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a glacier")
    page.get_by_label("Steps, exactly").fill(str(SLOW_STEPS))
    with slowed(live):
        page.locator("#generate").click()
        expect(page.locator("img.preview")).to_be_visible()
        first = shown_job(page, live)["id"]
        with stopped(live):
            page.locator("#generate").click()
            page.locator(".others li .quiet").click()
            page.wait_for_function("id => !location.hash.endsWith(id)", arg=first)
            expect(page.locator(".progress-text")).to_have_text("Next in the queue")
            expect(page.locator(".others li")).to_have_count(1)
            second = shown_job(page, live)["id"]
            page.locator("#cancel").click()
            expect(page.locator(".job")).to_have_attribute("data-status", "cancelled")
    assert live.finished(second)["status"] == "cancelled"
    assert live.finished(first)["status"] == "done"
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_cancel_by_key_stops_a_running_job(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a glacier")
    page.get_by_label("Steps, exactly").fill(str(SLOW_STEPS))
    with slowed(live):
        page.get_by_label("Prompt", exact=True).press("Control+Enter")
        expect(page.locator("img.preview")).to_be_visible()
        page.keyboard.press("Escape")  # in a field, where it is no order to cancel
        page.locator("h1").click()
        with page.expect_response(lambda answer: answer.request.method == "DELETE"):
            page.keyboard.press("Escape")
    expect(page.locator(".job")).to_have_attribute("data-status", "cancelled")
    assert live.pipe.steps_run < SLOW_STEPS


def test_img2img_from_a_chosen_file(page: Page, live):
    page.get_by_role("radio", name="Image", exact=True).check()
    choose_source(page, paint("a lake at dawn", 3))
    expect(page.locator(".source .thumb img")).to_be_visible()
    page.get_by_label("Prompt", exact=True).fill("a snowy mountain")
    page.get_by_label("Strength, exactly", exact=True).fill("0.5")
    job = generate(page, live)
    assert job["kind"] == "img2img"
    assert job["request"]["strength"] == 0.5
    got = fetch_picture(live, job["images"][0]).astype(int)
    seed = job["request"]["seed"]
    mean = (paint("a lake at dawn", 3).astype(int) + paint("a snowy mountain", seed)) // 2
    assert abs(got - mean).max() <= 1
    page.get_by_role("button", name="Compare").click()
    slider = page.get_by_role("slider", name="How much of the picture before is shown")
    slider.focus()
    slider.press("ArrowRight")
    expect(slider).to_have_value("50.5")


def test_img2img_from_a_pasted_picture(page: Page, live):
    paste(page, paint("a lake at dawn", 3))
    expect(page.locator(".source .thumb img")).to_be_visible()
    expect(page.get_by_role("radio", name="Image", exact=True)).to_be_checked()


def test_inpaint_paints_the_mask_and_keeps_the_rest(page: Page, live):
    lake = paint("a lake at dawn", 3)
    page.get_by_role("radio", name="In-paint", exact=True).check()
    page.locator("#generate").click()
    expect(page.get_by_text("Choose a picture first.")).to_be_visible()
    choose_source(page, lake)
    drag(page, (0.3, 0.5), (0.7, 0.5))
    expect(page.get_by_text("% painted")).to_be_visible()
    page.get_by_role("button", name="Done").click()
    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    page.get_by_role("switch", name="Blend in carefully").check()
    job = generate(page, live)
    wanted = {"num_resamples": 5, "solver": "ddim", "guidance_scale": 3}
    assert wanted.items() <= job["request"].items()

    mask = mask_of(live, job)
    side = mask.shape[0]
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    distance = np.hypot(np.clip(np.abs(x - 0.5) - 0.2, 0, None), y - 0.5)
    assert (mask[distance < 0.05] == 255).all()  # the brush is 0.12 wide; its edge is smooth
    assert (mask[distance > 0.07] == 0).all()

    got = fetch_picture(live, job["images"][0])
    new = paint("a volcano at sunset", job["request"]["seed"])
    assert mask.shape == got.shape[:2]
    np.testing.assert_array_equal(got, np.where(mask[..., None] >= 128, new, lake))


def test_mask_editor_erases_inverts_undoes_and_survives_a_reload(page: Page, live):
    page.get_by_role("radio", name="In-paint", exact=True).check()
    choose_source(page, paint("a lake", 3))
    canvas = page.locator("#mask-canvas")
    expect(canvas).to_be_visible()
    status = page.locator(".mask-editor .dialog-head .hint")
    canvas.focus()
    page.keyboard.press("Space")
    expect(status).to_have_text("1% painted")
    page.get_by_role("button", name="Invert").click()
    expect(status).to_have_text("99% painted")
    page.get_by_role("button", name="Eraser").click()
    page.mouse.move(*[canvas.bounding_box()[k] + 100 for k in ("x", "y")])
    page.mouse.down()
    page.mouse.up()
    expect(status).to_have_text("98% painted")
    for text in ("99% painted", "1% painted", "Nothing painted yet"):
        page.keyboard.press("Control+z")
        expect(status).to_have_text(text)
    page.keyboard.press("Control+Shift+z")
    expect(status).to_have_text("1% painted")
    page.get_by_role("button", name="Zoom in").click()
    assert canvas.bounding_box()["width"] > 800
    page.get_by_role("button", name="Done").click()
    page.reload()
    page.get_by_role("button", name="Edit the mask").first.click()
    expect(status).to_have_text("1% painted")


def test_outpaint_pads_the_picture_and_shows_where(page: Page, live):
    lake = paint("a lake at dawn", 3)
    page.get_by_role("radio", name="Image", exact=True).check()
    choose_source(page, lake)
    page.get_by_role("button", name="Extend").click()
    expect(page.get_by_role("radio", name="In-paint", exact=True)).to_be_checked()
    expect(page.get_by_role("radio", name="Around the picture")).to_be_checked()
    sides = [page.get_by_label(side, exact=True) for side in ("Left", "Top", "Right", "Bottom")]
    expect(sides[2]).to_have_value("32")
    for side, value in zip(sides, ("70", "16", "60", "0"), strict=True):
        side.fill(value)
    page.locator("#generate").click()
    expect(page.locator("#e-outpaint")).to_have_text(
        "Left and right together, like top and bottom, can add at most 112 pixels."
    )
    expect(sides[0]).to_be_focused()
    for side, value in zip(sides, ("32", "16", "0", "0"), strict=True):
        side.fill(value)
    expect(page.get_by_text("The picture takes 96 × 112 of 128 × 128.")).to_be_visible()

    whole = page.locator(".outpaint-canvas").bounding_box()
    inner = page.locator(".outpaint-canvas img").bounding_box()
    scale = whole["width"] / 128
    found = [inner["x"] - whole["x"], inner["y"] - whole["y"], inner["width"], inner["height"]]
    np.testing.assert_allclose(np.array(found) / scale, [32, 16, 96, 112], atol=0.5)

    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    job = generate(page, live)
    assert job["kind"] == "inpaint"
    assert job["request"]["outpaint"] == [32, 16, 0, 0]
    assert job["request"]["mask"] is None
    page.get_by_role("button", name="Compare").click()
    for side in sides:
        side.fill("0")
    page.locator("#generate").click()
    expect(page.locator("#e-outpaint")).to_have_text("Add pixels on at least one side.")
    page.get_by_role("button", name="Reuse settings").click()
    expect(sides[0]).to_have_value("32")
    page.get_by_role("radio", name="A part of the picture").check()
    expect(page.get_by_role("button", name="Paint the mask").first).to_be_visible()


def test_advanced_settings_are_sent_and_come_back(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.get_by_text("Advanced").click()
    eta = page.get_by_label("Noise added per step (eta), exactly")
    expect(eta).to_have_count(0)  # DPM++ does not use it
    page.get_by_label("Solver").select_option("DDIM")
    eta.fill("0.5")
    page.get_by_label("Guidance rescale, exactly").fill("0.7")
    page.get_by_label("Step spacing").select_option("Trailing")
    interval = page.get_by_role("switch", name="Guide only at some noise levels")
    expect(interval).not_to_be_checked()
    interval.check()
    low, high = (page.get_by_label(name, exact=True) for name in ("From", "To"))
    low.fill("0.9")
    high.fill("0.3")
    page.get_by_text("Advanced").click()
    page.locator("#generate").click()
    expect(page.get_by_text("“To” must not be less than “From”.")).to_be_visible()
    expect(low).to_be_focused()
    low.fill("0.25")
    high.fill("0.85")
    job = generate(page, live)
    wanted = {
        "solver": "ddim",
        "eta": 0.5,
        "guidance_rescale": 0.7,
        "guidance_interval": [0.25, 0.85],
        "spacing": "trailing",
    }
    assert wanted.items() <= job["request"].items()

    page.get_by_role("button", name="Reset settings").click()
    expect(interval).not_to_be_checked()
    expect(page.get_by_text("changed")).to_have_count(0)
    page.get_by_role("button", name="Reuse settings").click()
    expect(page.get_by_text("4 changed")).to_be_visible()
    assert wanted.items() <= generate(page, live)["request"].items()

    page.get_by_role("button", name="Reset settings").click()
    drop(page, live, job["images"][0])
    expect(page.get_by_text("Settings restored from the picture.")).to_be_visible()
    assert wanted.items() <= generate(page, live)["request"].items()


@pytest.mark.parametrize("way", ["reuse", "drop"])
def test_settings_of_every_kind_come_back(page: Page, live, provoked, way):
    lake = paint("a lake at dawn", 3)
    page.get_by_role("radio", name="Image", exact=True).check()
    choose_source(page, lake)
    page.get_by_text("Advanced").click()
    page.get_by_role("radio", name="How much noise").check()
    page.get_by_role("radio", name="Pad").check()
    page.get_by_role("radio", name="DDPM").check()
    page.get_by_label("What the source shows").fill("a lake at dawn")
    page.get_by_label("Solver").select_option("DDPM")  # which that inversion sets
    made = [generate(page, live)]

    page.get_by_role("radio", name="In-paint", exact=True).check()
    page.get_by_role("radio", name="Around the picture").check()
    page.get_by_label("Repeats of each step, exactly").fill("3")
    page.get_by_label("Solver").select_option("UniPC")
    page.locator("#generate").click()
    provoked.append("status of 422")
    refusal = "above 1 needs solver to be one of ddim"
    expect(page.locator("#e-num_resamples")).to_contain_text(refusal)
    page.get_by_label("Solver").select_option("DDIM")
    made.append(generate_next(page, live))

    page.get_by_role("radio", name="Anagram", exact=True).check()
    page.get_by_role("radio", name="Pixel").check()
    for i in (1, 2):
        page.get_by_label(f"Reading {i}", exact=True).fill("a lake")
    made.append(generate_next(page, live))

    kept = {
        "img2img": {
            "strength_mode": "full",
            "inversion": "ddpm",
            "source_prompt": "a lake at dawn",
        },
        "inpaint": {"strength_mode": "full", "num_resamples": 3, "outpaint": [0, 0, 32, 0]},
        "anagram": {"anagram_mode": "pixel"},
    }
    for job in made:
        assert kept[job["kind"]].items() <= job["request"].items()
        page.evaluate("localStorage.clear()")
        page.goto("about:blank")
        page.goto(f"{live.url}/#job={job['id']}")
        if way == "reuse":
            page.get_by_role("button", name="Reuse settings").click()
        else:
            expect(page.locator(".job")).to_be_visible()
            drop(page, live, job["images"][0])
            expect(page.get_by_text("Settings restored from the picture.")).to_be_visible()
        again = generate_next(page, live)
        same = {k: v for k, v in job["request"].items() if k in Settings.__dataclass_fields__}
        assert same.items() <= again["request"].items()
        assert again["images"][0]["sha256"] == job["images"][0]["sha256"]


def test_anagram_turns(page: Page, live):
    page.get_by_role("radio", name="Anagram", exact=True).check()
    page.locator("#generate").click()
    expect(page.get_by_text("Enter a prompt for this reading.").first).to_be_visible()
    page.get_by_label("Reading 1", exact=True).fill("a volcano at sunset")
    page.get_by_label("Reading 2", exact=True).fill("a lake")
    job = generate(page, live)
    assert job["request"]["anagram"] == [
        {"prompt": "a volcano at sunset", "view": "identity"},
        {"prompt": "a lake", "view": "rot180"},
    ]
    frame = page.locator(".anagram-frame")
    expect(frame).to_have_attribute("data-view", "identity")
    frame.focus()
    page.keyboard.press("Space")
    expect(frame).to_have_attribute("data-view", "rot180")
    box = frame.bounding_box()
    centre = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(centre[0] + 150, centre[1])
    page.mouse.down()
    page.mouse.move(centre[0] + 100, centre[1] + 120, steps=4)
    page.mouse.move(centre[0] - 140, centre[1] + 30, steps=6)
    page.mouse.up()
    expect(frame).to_have_attribute("data-view", "identity")


def test_random_prompt_by_category_and_split(page: Page, live):
    prompt = page.get_by_label("Prompt", exact=True)
    page.get_by_role("button", name="Random", exact=True).click()
    expect(prompt).to_have_value("a lake at dawn")
    page.get_by_role("button", name="Random prompt options").click()
    page.get_by_label("Category").select_option("mountains")
    page.get_by_role("button", name="Random", exact=True).click()
    expect(prompt).to_have_value("a snowy summit")
    page.get_by_label("Category").select_option("lakes")
    page.get_by_label("From", exact=True).select_option("Validation prompts")
    page.get_by_role("button", name="Random", exact=True).click()
    expect(prompt).to_have_value("a pond at noon")


def test_matching_shows_candidates_before_use(page: Page, live):
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("a lake")
    page.get_by_role("button", name="Match", exact=True).click()
    rows = page.locator(".candidates button")
    expect(rows).to_have_count(3)
    expect(rows.first.locator(".score")).to_have_text("0.50")
    expect(prompt).to_have_value("a lake")
    rows.first.click()
    expect(prompt).to_have_value("a lake at dawn")
    page.get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value("a lake")
    page.get_by_label("Bank").select_option("Validation prompts")
    expect(rows).to_have_count(1)
    page.get_by_role("switch", name="Match every time I generate").check()
    job = generate(page, live)
    assert job["matched_from"] == "a lake"
    expect(page.get_by_text("Matched from “a lake”")).to_be_visible()


def test_prompt_bank_is_searched_grown_and_pruned(page: Page, live):
    page.get_by_role("button", name="Browse").click()
    bank = page.get_by_role("dialog", name="Prompt bank")
    rows = bank.locator(".bank-prompt span")
    expect(rows).to_have_text(["a snowy summit", "a tarn in the mist", "a lake at dawn"])
    bank.get_by_label("Category", exact=True).select_option("lakes")
    expect(rows).to_have_count(2)
    bank.get_by_label("Search the prompt bank").fill("TARN")
    expect(rows).to_have_text(["a tarn in the mist"])
    expect(bank.get_by_text("1 prompt", exact=True)).to_be_visible()
    bank.get_by_label("From", exact=True).select_option("Validation prompts")
    expect(bank.get_by_text("No prompts match.")).to_be_visible()

    bank.get_by_text("Add a prompt").click()
    bank.get_by_role("button", name="Add", exact=True).click()
    expect(bank.get_by_text("Enter a prompt.")).to_be_visible()
    expect(bank.get_by_text("Enter a category.")).to_be_visible()
    expect(bank.get_by_label("New prompt")).to_be_focused()
    bank.get_by_label("New prompt").fill("a pass in the clouds")
    bank.get_by_label("Its category").fill("High_Passes")
    bank.get_by_label("Its category").press("Enter")
    expect(bank.get_by_text("Added to “high passes”.")).to_be_visible()
    expect(rows).to_have_text(["a pass in the clouds"])
    expect(bank.get_by_label("Category", exact=True)).to_have_value("high passes")

    bank.get_by_role("button", name="Remove “a pass in the clouds”").click()
    put_back = bank.get_by_role("button", name="Restore “a pass in the clouds”")
    expect(put_back).to_be_visible()
    expect(bank.get_by_text("0 prompts")).to_be_visible()
    params = {"category": "high passes"}
    listed = live.client.get("/api/v1/bank/prompts", params=params).json()
    assert listed == {"prompts": [], "total": 0}
    put_back.click()
    rows.first.click()
    expect(bank).to_have_count(0)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a pass in the clouds")
    listed = live.client.get("/api/v1/bank/prompts", params=params).json()
    assert [row["prompt"] for row in listed["prompts"]] == ["a pass in the clouds"]


def test_prompt_bank_goes_on_and_says_what_went_wrong(page: Page, live, provoked):
    bank = live.context.bank()
    bank.prompts = {str(i): ("train", "lakes", f"lake {i}") for i in range(120)}
    page.keyboard.press("b")
    dialog = page.get_by_role("dialog", name="Prompt bank")
    rows = dialog.locator(".bank-prompt")
    expect(rows).to_have_count(50)
    dialog.get_by_role("button", name="Remove “lake 119”").click()
    expect(dialog.get_by_text("119 prompts")).to_be_visible()
    for count in (100, 120):
        dialog.get_by_role("button", name="Show more").click()
        expect(rows).to_have_count(count)
    expect(dialog.get_by_role("button", name="Show more")).to_have_count(0)

    bank.remove(["0"])  # by somebody else
    provoked.extend(("status of 404", "status of 422"))
    dialog.get_by_role("button", name="Remove “lake 0”", exact=True).click()
    expect(dialog.get_by_text("the bank has no prompt 0")).to_be_visible()

    def broken(*_):
        raise ParameterError("prompt", "must be kinder")

    bank.add = broken
    dialog.get_by_text("Add a prompt").click()
    dialog.get_by_label("New prompt").fill("a lake")
    dialog.get_by_label("Its category").fill("lakes")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.locator("#bank-error-prompt")).to_have_text("prompt must be kinder")


def test_upscale_with_a_slider_between_before_and_after(page: Page, live):
    page.get_by_role("radio", name="Upscale", exact=True).check()
    choose_source(page, paint("a waterfall", 3))
    page.get_by_role("radio", name="2×").check()
    page.locator("#generate").click()
    job = wait_done(page, live)
    assert fetch_picture(live, job["images"][0]).shape == (256, 256, 3)
    expect(page.locator(".compare")).to_be_visible()
    slider = page.get_by_role("slider", name="How much of the picture before is shown")
    slider.fill("20")
    assert page.locator(".compare").evaluate("e => e.style.getPropertyValue('--split')") == "20%"


def test_gallery_searches_reuses_and_deletes(page: Page, live):
    for i, prompt in enumerate(("a lake at dawn", "a volcano at sunset", "a snowy mountain")):
        settings = {"num_inference_steps": 3 + i, "guidance_scale": 2.5, "num_images": 2}
        live.finished(live.submit(prompt=prompt, seed=10 * i, **settings)["id"])
    page.reload()
    tiles = page.locator(".thumbs .tile")
    expect(tiles).to_have_count(6)
    page.get_by_label("Search prompts").fill("volcano")
    expect(tiles).to_have_count(2)
    tiles.first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading")).to_have_text("a volcano at sunset")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("img")).to_have_attribute("alt", "a volcano at sunset, seed 10")
    page.keyboard.press("ArrowLeft")
    viewer.get_by_role("button", name="Reuse settings").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a volcano at sunset")
    expect(page.get_by_label("Steps, exactly")).to_have_value("4")
    expect(page.get_by_label("Guidance, exactly")).to_have_value("2.5")
    expect(page.locator("#f-seed")).to_have_value("11")
    tiles.first.click()
    with page.expect_download() as download:
        viewer.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".png")
    viewer.get_by_role("button", name="Delete").click()
    expect(tiles).to_have_count(1)
    assert len(live.client.get("/api/v1/images").json()["images"]) == 5


@pytest.mark.parametrize(("button", "kind"), [("Change it", "img2img"), ("Upscale", "upscale")])
def test_gallery_sends_pictures_on(page: Page, live, button, kind):
    image = live.finished(live.submit(prompt="a lake", seed=1)["id"])["images"][0]
    page.reload()
    page.locator(".thumbs .tile").click()
    page.get_by_role("dialog").get_by_role("button", name=button).click()
    expect(page.locator(f"input[value={kind}]")).to_be_checked()
    expect(page.locator(".source .thumb img")).to_have_attribute("src", image["url"])


def test_reload_during_a_job_loses_nothing(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a glacier")
    page.get_by_label("Steps, exactly").fill(str(SLOW_STEPS))
    with slowed(live):
        page.locator("#generate").click()
        expect(page.locator("img.preview")).to_be_visible()
        job = shown_job(page, live)["id"]
        page.reload()
        assert page.url.endswith(job)
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("a glacier")
        expect(page.locator("img.preview")).to_be_visible()
        page.goto(live.url)  # without the job in the address
        expect(page.locator("img.preview")).to_be_visible()
    assert wait_done(page, live)["id"] == job


def test_dropped_png_restores_its_settings(page: Page, live, browser):
    made = live.submit(prompt="a waterfall in spring", seed=77, num_inference_steps=9)
    drop(page, live, live.finished(made["id"])["images"][0])
    expect(page.get_by_text("Settings restored from the picture.")).to_be_visible()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a waterfall in spring")
    expect(page.get_by_label("Steps, exactly")).to_have_value("9")
    expect(page.locator("#f-seed")).to_have_value("77")
    expect(page.locator(".drop-target")).to_have_count(0)


def test_xy_grid(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    page.get_by_role("button", name="X/Y grid").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Across: values").fill("4, x")
    dialog.get_by_role("button", name="Make").click()
    expect(dialog.get_by_text("“x” is not a number.")).to_be_visible()
    dialog.get_by_label("Across: values").fill("4, 8, 16")
    dialog.get_by_label("Down", exact=True).select_option("Seed")
    dialog.get_by_label("Down: values").fill("1, 2")
    dialog.get_by_role("button", name="Make 6 pictures").click()
    cells = page.locator(".grid-view td img")
    expect(cells).to_have_count(6)
    page.reload()
    expect(cells).to_have_count(6)
    jobs = live.client.get("/api/v1/jobs").json()["jobs"]
    found = {(j["request"]["num_inference_steps"], j["request"]["seed"]) for j in jobs}
    assert found == {(steps, seed) for steps in (4, 8, 16) for seed in (1, 2)}


def test_presets_and_shortcuts(page: Page, live):
    page.get_by_text("Presets").click()
    page.get_by_role("button", name="Fine").click()
    expect(page.get_by_label("Steps, exactly")).to_have_value("60")
    page.get_by_label("Steps, exactly").fill("33")
    page.get_by_text("Presets").click()
    page.get_by_label("Preset name").fill("mine")
    page.get_by_label("Preset name").press("Enter")
    page.get_by_role("button", name="Draft").click()
    page.reload()
    page.get_by_text("Presets").click()
    page.get_by_role("button", name="mine 33 steps").click()
    expect(page.get_by_label("Steps, exactly")).to_have_value("33")
    page.keyboard.press("r")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a lake at dawn")
    page.keyboard.press("4")
    expect(page.get_by_role("radio", name="Anagram")).to_be_checked()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_errors_are_next_to_their_fields(page: Page, live):
    page.get_by_label("Steps, exactly").fill("0")
    page.locator("#generate").click()
    expect(page.locator("#e-num_inference_steps")).to_have_text("From 1 to 1000.")
    expect(page.get_by_label("Steps, exactly")).to_be_focused()
    page.get_by_label("Steps, exactly").fill("5")
    expect(page.locator("#e-num_inference_steps")).to_have_count(0)
    page.get_by_label("Prompt", exact=True).fill("!value")
    page.locator("#generate").click()
    expect(page.locator(".failure")).to_contain_text("prompt must be kinder")


def test_a_key_is_asked_for_once(browser, tmp_path):
    quiet()
    live = LiveServer(tmp_path / "keyed", pipe=ScenePipeline(), api_key="correct horse")
    context = browser.new_context()
    page = context.new_page()
    try:
        page.goto(live.url)
        dialog = page.get_by_role("dialog", name="This server requires a key")
        dialog.get_by_label("API key").fill("wrong horse")
        dialog.get_by_label("API key").press("Enter")
        expect(dialog.get_by_role("alert")).to_have_text("this is not the key")
        dialog.get_by_label("API key").fill("correct horse")
        dialog.get_by_role("button", name="Sign in").click()
        expect(dialog).to_have_count(0)
        page.get_by_role("button", name="Make this picture").click()
        wait_done(page, live)
        page.reload()
        expect(page.locator(".thumbs .tile")).to_have_count(1)
        expect(dialog).to_have_count(0)
    finally:
        context.close()
        live.stop()


def test_a_lost_connection_is_said_and_mended(open_page, live):
    page = open_page()
    page.route("**/events*", lambda route: route.abort())
    page.get_by_label("Prompt", exact=True).fill("a glacier")
    page.get_by_label("Steps, exactly").fill(str(SLOW_STEPS))
    with slowed(live):
        page.locator("#generate").click()
        expect(page.get_by_text("Connection lost.")).to_be_visible()
        page.unroute("**/events*")
        expect(page.locator("img.preview")).to_be_visible()
        expect(page.get_by_text("Connection lost.")).to_have_count(0)
    wait_done(page, live)


def test_fast_weights_bring_their_settings_and_take_them_back(browser, tmp_path):
    quiet()
    models = tmp_path / "models"
    for model, sets, sampling in (
        ("quick", ("ema", "fast"), {"fast": FAST}),
        ("plain", ("ema", "raw"), {}),
    ):
        (models / model).mkdir(parents=True)
        files = {f"denoiser.{name}.safetensors": "" for name in sets}
        demo = json.loads((EMBEDDED["demo"] / "config.json").read_text())
        text = json.dumps(demo | {"title": model, "files": files, "sampling": sampling})
        (models / model / "config.json").write_text(text)
    live = LiveServer(tmp_path / "data", pipe=ScenePipeline(), models_dir=models)
    context = browser.new_context()
    page = context.new_page()
    try:
        page.goto(live.url)
        page.get_by_label("Prompt", exact=True).fill("a glacier")
        weights = page.get_by_role("group", name="Weights")
        page.get_by_label("Model", exact=True).select_option("plain")
        expect(weights.get_by_role("radio", name="Raw")).to_have_count(1)
        expect(weights.get_by_role("radio", name="Fast")).to_have_count(0)
        page.get_by_label("Model", exact=True).select_option("quick")
        page.get_by_label("Guidance, exactly").fill("3")
        weights.get_by_role("radio", name="Fast").check()
        expect(page.get_by_label("Steps, exactly")).to_have_value("4")
        expect(page.get_by_label("Guidance, exactly")).to_have_value("1")
        job = generate(page, live)
        assert (FAST | {"weights": "fast", "model": "quick"}).items() <= job["request"].items()
        weights.get_by_role("radio", name="EMA").check()
        expect(page.get_by_label("Steps, exactly")).to_have_value("20")
        expect(page.get_by_label("Guidance, exactly")).to_have_value("3")
        weights.get_by_role("radio", name="Fast").check()
        page.get_by_label("Model", exact=True).select_option("plain")
        expect(page.get_by_text("This model has no “Fast” weights")).to_be_visible()
        job = generate_next(page, live)
        assert (job["request"]["weights"], job["request"]["guidance_scale"]) == ("ema", 2.5)
    finally:
        context.close()
        live.stop()


def test_a_prompt_that_is_too_long_is_told_while_typing_and_in_the_job(page: Page, live):
    live.pipe.text_encoder = load_text_encoder("minilm", 10)
    page.get_by_label("Prompt", exact=True).fill("a red lake under a blue mountain at dawn")
    counter = page.locator(".tokens").first
    expect(counter.locator("small")).to_have_text("9 of 8 tokens")
    expect(counter).to_contain_text("will not read “dawn”")
    generate(page, live)
    expect(page.locator(".job-side .note")).to_contain_text("left out: dawn")
    page.get_by_label("Prompt", exact=True).fill("a lake")
    expect(counter.locator("small")).to_have_text("2 of 8 tokens")
    expect(counter.locator(".note")).to_have_count(0)
    page.get_by_label("Prompt", exact=True).fill("a (lake:9)")
    expect(page.locator(".tokens-problem")).to_contain_text("from 0 to 2")


def test_a_full_disk_is_told_and_the_job_goes_on(page: Page, live, monkeypatch):
    monkeypatch.setattr("dg2_jax.serve.disk.LOOK_SECONDS", 0.1)
    live.pipe.go.clear()
    page.get_by_label("Prompt", exact=True).fill("a lake at dawn")
    page.locator("#generate").click()
    expect(page.locator(".job[data-status=running]")).to_be_visible()
    with monkeypatch.context() as full:
        full.setattr(Disk, "free", lambda self: 0)
        live.pipe.go.set()
        expect(page.locator(".progress-text")).to_have_text(FULL)
        expect(page.locator(".top .state")).to_have_text("Disk full")
    wait_done(page, live)
    expect(page.locator(".job-side .note")).to_have_count(0)
    expect(page.locator(".top .state")).to_have_text("Ready")


def test_pictures_are_enhanced_at_their_size(page: Page, live):
    page.get_by_role("radio", name="Upscale", exact=True).check()
    choose_source(page, paint("a waterfall", 3))
    page.get_by_role("radio", name="Enhance, keep the size").check()
    page.locator("#generate").click()
    job = wait_done(page, live)
    assert job["request"]["upscale"] == 1
    assert fetch_picture(live, job["images"][0]).shape == (128, 128, 3)
