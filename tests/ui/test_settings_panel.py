"""The settings: presets, weights, groups, the grid's axes; and a place for every control."""

import json

import pytest
from playwright.sync_api import Page, expect

from dg2_jax.models.folder import EMBEDDED
from dg2_jax.serve.job_controls import CONTROLS, of_kind
from tests.serve.live import LiveServer, quiet
from tests.tiny_model import FAST
from tests.ui.helpers import choose_source, generate, shown_job
from tests.ui.painter import ScenePipeline, paint


@pytest.fixture
def quick(browser, tmp_path):
    """A page with a model that has fast weights."""
    quiet()
    folder = tmp_path / "models" / "quick"
    folder.mkdir(parents=True)
    files = {f"denoiser.{name}.safetensors": "" for name in ("ema", "fast")}
    demo = json.loads((EMBEDDED["demo"] / "config.json").read_text())
    text = json.dumps(demo | {"title": "quick", "files": files, "sampling": {"fast": FAST}})
    (folder / "config.json").write_text(text)
    live = LiveServer(
        tmp_path / "data", pipe=ScenePipeline(), models_dir=tmp_path / "models", model="quick"
    )
    context = browser.new_context()
    page = context.new_page()
    page.goto(live.url)
    yield page, live
    context.close()
    live.stop()


def weights(page: Page, name: str):
    return page.get_by_role("group", name="Weights").get_by_role("radio", name=name)


def test_leaving_fast_weights_restores_what_was_there_also_after_a_reload(quick):
    page, _ = quick
    page.get_by_text("Advanced").click()
    page.get_by_label("Steps, exactly").fill("33")
    page.get_by_label("Step spacing").select_option("Trailing")
    weights(page, "Fast").check()
    expect(page.get_by_label("Steps, exactly")).to_have_value(str(FAST["num_inference_steps"]))
    page.wait_for_timeout(400)
    page.reload()
    expect(weights(page, "Fast")).to_be_checked()
    weights(page, "EMA").check()
    page.get_by_text("Advanced").click()
    expect(page.get_by_label("Steps, exactly")).to_have_value("33")
    expect(page.get_by_label("Step spacing")).to_have_value("Trailing")


def test_a_preset_sets_weights_and_spacing_too(quick):
    page, live = quick
    weights(page, "Fast").check()
    page.get_by_text("Presets").click()
    page.get_by_role("button", name="Fine").click()
    expect(weights(page, "EMA")).to_be_checked()
    page.get_by_label("Prompt", exact=True).fill("a lake")
    request = generate(page, live)["request"]
    wanted = {"weights": "ema", "num_inference_steps": 60, "guidance_scale": 3.5}
    assert wanted.items() <= request.items()
    assert (request["solver"], request["spacing"]) == ("dpmpp_2m", None)


def test_advanced_settings_are_grouped_and_searched(page: Page):
    page.get_by_text("Advanced").click()
    advanced = page.locator("details.advanced")
    groups = advanced.locator("h3")
    expect(groups).to_have_text(
        ["Sampling", "Guidance", "Speed", "Second pass", "Preview", "Output"]
    )
    shown = advanced.locator("[data-control]")
    count = shown.count()
    search = page.get_by_label("Search the advanced settings")
    assert advanced.locator(".search").bounding_box()["height"] < 50
    search.fill("OVERSATURATED colours")
    expect(shown).to_have_count(1)
    expect(shown).to_have_attribute("data-control", "apg_eta")
    search.fill("apg_mom")
    expect(shown).to_have_attribute("data-control", "apg_momentum")
    search.fill("no such thing")
    expect(advanced.get_by_text("No setting matches “no such thing”.")).to_be_visible()
    search.fill("")
    expect(shown).to_have_count(count)


# Where a control stands that has no widget of its own name.
PLACES = {
    "prompt": "#f-prompt",
    "negative_prompt": "#f-negative_prompt",
    "prompt_matching": "text=Match every time I generate",
    "styles": "text=Styles",
    "strength": "#f-strength, #f-inpaint_strength",
    "crop_position": "#f-crop_position",
    "mask_feather": "#f-mask_feather",
    "outpaint": "#f-outpaint-0",
    "anagram": ".reading",
    "height": "#f-width",
    "upscale": "[name=upscale], [name=upscale_upscale]",
}
# What a page brings out that the demo model, or its default settings, do not use.
SETTINGS = {
    "solver": "ddim",
    "autoguidance_model": "demo",
    "inversion": None,
    "upscale": 2,
    "preview_mode": "linear",
    "inpaint_area": "only_masked",
}
ABSENT = {
    "model": "there is one",
    "decoder": "the demo model has one",
    **{
        name: "belongs to Stable Diffusion"
        for name in CONTROLS
        if name.startswith("control") or name in ("clip_skip", "original_size", "target_size")
    },
    "crops_coords_top_left": "belongs to Stable Diffusion",
}


@pytest.mark.parametrize("kind", ["txt2img", "img2img", "inpaint", "anagram", "upscale"])
def test_every_control_has_its_place(page: Page, kind):
    page.evaluate("(mode) => import('/static/js/state.js').then((m) => m.change({ mode }))", kind)
    if kind in ("img2img", "inpaint", "upscale"):
        choose_source(page, paint("a lake at dawn", 3)[:64])
    if kind == "inpaint":
        page.get_by_role("button", name="Done").click()
    if kind in ("txt2img", "img2img", "inpaint"):
        page.get_by_role("button", name="Match", exact=True).click()
    if page.get_by_text("Advanced").count():
        page.get_by_text("Advanced").click()
    missing = set(of_kind(kind)) - set(ABSENT)
    ways = [
        SETTINGS,
        {**SETTINGS, "hires_size": [256, 256]},
        {**SETTINGS, "inversion": "ddim", "inpaint_area": "whole", "region": "outpaint"},
    ]
    for way in ways:
        page.evaluate("(way) => import('/static/js/state.js').then((m) => m.change(way))", way)
        page.wait_for_timeout(200)
        for name in sorted(missing):
            place = PLACES.get(name, f"#f-{name}, [name={name}], [data-control={name}]")
            if page.locator(place).count():
                missing.remove(name)
    assert not missing


def test_grid_takes_ranges_of_seeds_and_solvers_by_label(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a volcano at sunset")
    page.get_by_label("Steps, exactly").fill("2")
    page.get_by_role("button", name="X/Y grid").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Across", exact=True).select_option("Seed")
    dialog.get_by_label("Across: values").fill("3-5, 10 - 30 (+10)")
    dialog.get_by_label("Down", exact=True).select_option("Solver")
    expect(dialog.get_by_text("Any of DDIM, DDPM")).to_be_visible()
    dialog.get_by_label("Down: values").fill("dpm++ 2m, heun")
    dialog.get_by_role("button", name="Make 12 pictures").click()
    expect(page.locator(".grid-view td img")).to_have_count(12)
    expect(page.locator(".grid-view tbody th")).to_have_text(["DPM++ 2M", "Heun"])
    jobs = live.client.get("/api/v1/jobs").json()["jobs"]
    found = {(job["request"]["solver"], job["request"]["seed"]) for job in jobs}
    seeds = (3, 4, 5, 10, 20, 30)
    assert found == {(solver, seed) for solver in ("dpmpp_2m", "heun") for seed in seeds}


def test_escape_in_a_field_cancels_nothing(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a glacier")
    live.pipe.go.clear()
    page.locator("#generate").click()
    job = shown_job(page, live)["id"]
    for field in ("Prompt", "Negative prompt", "Steps, exactly", "Search prompts"):
        if page.get_by_label(field, exact=True).count():
            page.get_by_label(field, exact=True).press("Escape")
    page.get_by_role("radio", name="Raw").press("Escape")
    page.get_by_label("Solver").press("Escape")
    page.wait_for_timeout(200)
    assert live.client.get(f"/api/v1/jobs/{job}").json()["status"] in ("queued", "running")
    live.pipe.go.set()
    assert live.finished(job)["status"] == "done"


@pytest.mark.parametrize("mode", ["Text", "Anagram", "Upscale"])
def test_the_skip_link_leads_to_what_is_made(page: Page, mode):
    page.get_by_role("radio", name=mode, exact=True).check()
    link = page.get_by_role("link", name="Skip to the prompt")
    link.focus()
    link.press("Enter")
    assert page.evaluate("document.querySelector('#composer').contains(document.activeElement)")


def test_the_gallerys_heading_is_free_at_every_width(open_page, live):
    live.finished(live.submit(prompt="a lake", num_inference_steps=1)["id"])
    for width in (390, 768, 1101, 1440, 2560):
        page = open_page(viewport={"width": width, "height": 1000})
        box = page.get_by_role("heading", name="Gallery").evaluate(
            "e => { const r = document.createRange(); r.selectNodeContents(e);"
            " const {right, bottom} = r.getBoundingClientRect(); return [right, bottom]; }"
        )
        search = page.locator(".gallery .search").bounding_box()
        assert box[0] + 4 <= search["x"] or box[1] <= search["y"], width
        assert page.evaluate("document.documentElement.scrollWidth") == width
