"""The page over a small Stable Diffusion model and the embedded one, from one to the other."""

import shutil

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dg2_jax.serve.models import load_pipeline
from tests.sd_models import GOLDEN, lora_file
from tests.serve.live import LiveServer, quiet
from tests.ui.helpers import png_bytes, shown_job

SECONDS = 240  # that a job may take: its networks are compiled for it


@pytest.fixture
def live(tmp_path):
    """A server whose default model is the embedded one, beside `sd`, with adapters."""
    quiet()
    shutil.copytree(GOLDEN / "sd2_small", tmp_path / "models" / "sd")
    shutil.copytree(GOLDEN / "controlnet_sd2", tmp_path / "controlnets" / "edges")
    (tmp_path / "loras").mkdir()
    lora_file(tmp_path / "loras" / "ink.safetensors")
    folders = {name: tmp_path / name for name in ("loras", "controlnets")}
    server = LiveServer(
        tmp_path / "data",
        load=lambda place: load_pipeline(place, **folders),
        models_dir=tmp_path / "models",
        **folders,
    )
    yield server
    server.stop()


def made(page: Page, live) -> dict:
    """Presses the button and waits for its job."""
    before = page.url
    page.locator("#generate").click()
    page.wait_for_url(lambda url: url != before)
    expect(page.locator(".job")).to_have_attribute("data-status", "done", timeout=SECONDS * 1000)
    return shown_job(page, live)


def test_from_one_model_to_the_other(page: Page, live):
    page.fill("#f-prompt", "a lake at dawn")
    advanced = page.locator("details.advanced")
    advanced.locator("summary").click()
    expect(page.locator("#f-model")).to_have_value("demo")
    expect(page.locator("#f-clip_skip")).to_have_count(0)
    page.get_by_label("Steps, exactly").fill("2")
    job = made(page, live)
    assert (job["request"]["model"], job["request"]["guidance_scale"]) == ("demo", 2.5)
    assert job["images"][0]["width"] == 128

    page.select_option("#f-model", label="sd")
    expect(page.locator(".top .model")).to_have_text("sd")
    expect(page.locator("#f-guidance_scale")).to_have_value("7.5")
    expect(page.locator("#f-num_inference_steps")).to_have_value("25")
    expect(page.locator("#f-solver")).to_have_value("DDIM")  # of its scheduler
    expect(page.locator("[data-control=clip_skip]")).to_be_visible()
    expect(page.locator("[data-control=original_size]")).to_have_count(0)  # is XL's
    page.get_by_label("Steps, exactly").fill("2")
    page.select_option("#insertions", label="LoRA: ink")
    expect(page.locator("#f-prompt")).to_have_value("a lake at dawn <lora:ink:1>")
    page.select_option("#f-controlnet", label="edges")
    page.locator("#generate").click()
    expect(page.locator("#e-control_image")).to_be_visible()
    pixels = np.zeros((32, 32, 3), np.uint8)
    page.set_input_files("#control-file", [png_bytes(pixels, "edges.png")])
    expect(page.locator(".field .thumb img")).to_be_visible()
    job = made(page, live)
    request = job["request"]
    assert (request["model"], request["controlnet"], request["solver"]) == ("sd", "edges", "ddim")
    assert request["prompt"] == "a lake at dawn <lora:ink:1>"
    assert job["images"][0]["width"] == 32

    page.select_option("#f-model", index=0)
    expect(page.locator("#f-controlnet")).to_have_count(0)
    expect(page.locator("#f-guidance_scale")).to_have_value("2.5")
    page.fill("#f-prompt", "a lake at dawn")
    page.get_by_label("Steps, exactly").fill("2")
    job = made(page, live)
    assert job["request"]["model"] == "demo"
    assert job["request"]["controlnet"] is None
