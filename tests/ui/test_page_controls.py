"""The page and the declared controls: what is declared appears, and comes back exactly."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dg2_jax.serve.job_controls import CONTROLS, of_kind
from tests.ui.conftest import EXECUTABLE
from tests.ui.dummy_control import HELP
from tests.ui.helpers import generate_next, png_bytes, shown_job
from tests.ui.painter import paint

# A value that is not the default, for every control that decides what a picture looks like.
OTHER = {
    "negative_prompt": "fog",
    "num_inference_steps": 7,
    "guidance_scale": -3.5,
    "solver": "ddim",
    "eta": 0.5,
    "spacing": "trailing",
    "weights": "raw",
    "guidance_rescale": 0.3,
    "guidance_interval": [0.15, 0.85],
    "apg_eta": 0.4,
    "apg_norm_threshold": 12.5,
    "apg_momentum": -0.45,
    "variation_seed": 12,
    "variation_strength": 0.35,
    "autoguidance_model": "demo",
    "autoguidance_scale": 1.7,
    "reuse_every": 3,
    "height": 96,
    "width": 160,
    "strength": 0.65,
    "strength_mode": "full",
    "resize_mode": "pad",
    "crop_position": [0.5, 0.25],
    "mask_feather": 9.5,
    "inpaint_area": "only_masked",
    "inpaint_padding": 40,
    "inpaint_upscaler": "animevideov3",
    "num_resamples": 2,
    "outpaint": [16, 0, 0, 8],
    "anagram": [{"prompt": "a lake", "view": "identity"}, {"prompt": "a hill", "view": "rot180"}],
    "anagram_mode": "corrected",
    "hires_size": [192, 320],
    "hires_method": "bicubic",
    "hires_strength": 0.6,
    "hires_steps": 5,
    "upscale": 2,
    "upscaler": "animevideov3",
    "vae_tiling": True,
    "preview_mode": "none",
}
# Where another value would be no free choice, or is no part of the picture.
NOT_CHANGED = {
    "prompt": "is what the page asks for first",
    "seed": "is locked by every reuse",
    "num_images": "reuse is of one picture",
    "model": "there is one",
    "styles": "a request is about the prompts that they made",
    "prompt_matching": "a request is about the matched prompt",
    "embed_metadata": "without it nothing could come back from a file",
    "inversion": "sets solver and eta, tested in test_page",
    "source_prompt": "belongs to inversion",
    "preview_every": "is not used without previews",
    **{
        name: "belongs to Stable Diffusion"
        for name in (
            *("original_size", "crops_coords_top_left", "target_size", "clip_skip"),
            *("controlnet", "controlnet_conditioning_scale", "control_guidance_start"),
            *("control_guidance_end", "control_preprocessor", "decoder"),
        )
    },
}


def test_a_control_that_is_declared_shows_up_everywhere():
    if EXECUTABLE is None:
        pytest.skip("needs chromium")
    command = [sys.executable, "-m", "tests.ui.dummy_control"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["signature"] == [0.5, "float"]
    assert "--sparkle: " + HELP[:20] in seen["help"]
    assert seen["openapi"]["maximum"] == 2
    assert seen["openapi"]["default"] == 0.5
    assert seen["options"]["help"] == HELP
    assert "Sparkle" in seen["page"]
    assert HELP in seen["page"]
    assert (seen["page again"], seen["call"]) == ("1.5", 1.5)


def test_the_table_of_other_values_has_every_control():
    assert set(OTHER) | set(NOT_CHANGED) == set(CONTROLS)
    assert not set(OTHER) & set(NOT_CHANGED)
    for name, value in OTHER.items():
        assert value != CONTROLS[name].default


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("txt2img", ()),
        ("img2img", ()),
        ("inpaint", ("inpaint_area", "inpaint_padding", "inpaint_upscaler")),  # out-painting
        ("inpaint", ("outpaint",)),
        ("anagram", ()),
    ],
)
def test_a_picture_of_any_settings_comes_back_exactly(page: Page, live, kind, without):
    fields = {n: OTHER[n] for n in of_kind(kind) if n in OTHER and n not in without}
    if kind in ("img2img", "inpaint"):
        fields["image"] = _stored(live, paint("a lake at dawn", 3))
    if "outpaint" in without:
        fields["mask"] = _stored(live, np.tri(128, dtype=np.uint8)[:, :, None].repeat(3, 2) * 255)
    prompt = {} if kind == "anagram" else {"prompt": "a volcano at sunset"}
    made = live.finished(live.submit(kind=kind, seed=77, **prompt, **fields)["id"])
    assert made["status"] == "done", made["error"]
    page.evaluate("localStorage.clear()")
    page.goto("about:blank")
    page.goto(f"{live.url}/#job={made['id']}")
    page.get_by_role("button", name="Reuse settings").click()
    expect(page.get_by_text("Settings restored.")).to_be_visible()
    again = generate_next(page, live)
    unused = {"preview_every"}  # without previews
    if kind == "inpaint":
        unused.add("resize_mode")  # an out-painting is always cropped
    unlike = {k for k, v in made["request"].items() if again["request"].get(k) != v}
    assert unlike <= unused
    assert again["images"][0]["sha256"] == made["images"][0]["sha256"]


def _stored(live, pixels):
    data = png_bytes(pixels, "source.png")["buffer"]
    return live.client.post("/api/v1/inputs", files={"file": data}).json()["id"]


def test_the_servers_limit_of_pictures_is_the_pages(browser, tmp_path):
    from tests.serve.live import LiveServer

    server = LiveServer(tmp_path, max_images=100)
    page = browser.new_page()
    try:
        page.goto(server.url)
        page.get_by_label("Pictures, exactly").fill("101")
        page.get_by_label("Prompt", exact=True).fill("a lake")
        page.locator("#generate").click()
        expect(page.locator("#e-num_images")).to_have_text("From 1 to 100.")
        page.get_by_label("Pictures, exactly").fill("80")
        page.locator("#generate").click()
        assert shown_job(page, server)["request"]["num_images"] == 80
    finally:
        page.close()
        server.stop()


def test_sizes_are_offered_and_sent(page: Page, live):
    page.get_by_label("Size", exact=True).select_option("160 × 96")
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.locator("#generate").click()
    job = live.finished(shown_job(page, live)["id"])
    assert (job["images"][0]["width"], job["images"][0]["height"]) == (160, 96)
