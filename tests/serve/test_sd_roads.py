"""What can be asked of a Stable Diffusion model, by every road: the library, the server's own
interface, webuiapi and openai. The same request gives the same pixels on all of them."""

import base64
import io
import shutil
import threading
import time

import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image

from dg2_jax import Pipeline
from dg2_jax.serve.client import Client
from tests.sd_models import GOLDEN, inpainting, lora_file
from tests.serve.live import LiveServer

SIDE = 32
COMMON = {"num_inference_steps": 3, "seed": 5, "guidance_scale": 4.0, "solver": "ddim"}
PICTURE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[: SIDE // 2] = 255
INPAINTING = {"prompt": "a lake", "image": PICTURE, "mask": MASK, "mask_feather": 0.0,
              "strength": 0.8}  # fmt: skip
ANAGRAM = (("a lake", "identity"), ("snow", "rot180"))

# What is asked for, as `Pipeline` takes it; "model" is the server's name of one.
CALLS = {
    "txt2img": {"prompt": "a lake", "negative_prompt": "fog"},
    "several": {"prompt": "a lake", "num_images": 2},
    "clip_skip": {"prompt": "a lake", "clip_skip": 1},
    "img2img": {"prompt": "a lake", "image": PICTURE, "strength": 0.6},
    "inpaint, 4 channels": INPAINTING,
    "inpaint, 9 channels": {**INPAINTING, "model": "paint"},
    "anagram": {"anagram": ANAGRAM},
    "lora": {"prompt": "a lake <lora:ink:0.8>"},
    "controlnet": {"prompt": "a lake", "controlnet": "edges", "control_image": PICTURE,
                   "control_preprocessor": "canny", "controlnet_conditioning_scale": 0.7},
}  # fmt: skip


class Roads:
    """A server with two models, and the same two as pipelines."""

    def __init__(self, base):
        models = base / "models"
        shutil.copytree(GOLDEN / "sd2_small", models / "sd")
        inpainting(models / "paint")
        shutil.copytree(GOLDEN / "controlnet_sd2", base / "controlnets" / "edges")
        (base / "loras").mkdir()
        lora_file(base / "loras" / "ink.safetensors")
        folders = {name: base / name for name in ("loras", "controlnets")}
        self.pipes = {name: Pipeline.load(models / name, **folders) for name in ("sd", "paint")}
        self.server = LiveServer(
            base / "data",
            load=lambda place: self.pipes[place.rpartition("/")[2]],
            model=f"{models}/sd,{models}/paint",
            **folders,
        )
        self.client = Client(self.server.url)
        self.a1111 = webuiapi.WebUIApi(port=self.server.port, host="127.0.0.1")
        self.openai = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="unused")

    def library(self, model="sd", **controls):
        return self.pipes[model](**controls).images

    def own(self, **controls):
        kind = "txt2img"
        if "anagram" in controls:
            kind = "anagram"
            controls["anagram"] = views(controls["anagram"])
        elif "mask" in controls:
            kind = "inpaint"
        elif "image" in controls:
            kind = "img2img"
        return self.client.generate(kind=kind, **pictures(controls))

    def webuiapi(self, model="sd", **controls):
        names = {
            "num_inference_steps": "steps",
            "guidance_scale": "cfg_scale",
            "solver": "sampler_name",
            "strength": "denoising_strength",
            "mask": "mask_image",
            "mask_feather": "mask_blur",
            "num_images": "batch_size",
        }
        given = pictures(controls)
        settings = {"sd_model_checkpoint": model}
        if "clip_skip" in given:
            settings["CLIP_stop_at_last_layers"] = given.pop("clip_skip") + 1
        if "controlnet" in given:
            unit = webuiapi.ControlNetUnit(
                given.pop("control_image"),
                module=given.pop("control_preprocessor"),
                model=given.pop("controlnet"),
                weight=given.pop("controlnet_conditioning_scale"),
            )
            given["controlnet_units"] = [unit]
        if "anagram" in given:
            given["alwayson_scripts"] = {"anagram": {"args": views(given.pop("anagram"))}}
        image = given.pop("image", None)
        fields = {names.get(name, name): value for name, value in given.items()}
        fields |= {"override_settings": settings, "width": SIDE, "height": SIDE}
        if image is None:
            return self.a1111.txt2img(**fields).images
        fields |= {"inpainting_fill": 1, "inpaint_full_res": False}  # start from what is there
        return self.a1111.img2img(images=[image], **fields).images

    def openai_client(self, model="sd", **controls):
        if "anagram" in controls:
            controls["anagram"] = views(controls["anagram"])
            controls["prompt"] = controls["anagram"][0]["prompt"]  # which openai needs
        if "control_image" in controls:
            controls["control_image"] = base64.b64encode(png(controls["control_image"])).decode()
        fields = {"model": model, "prompt": controls.pop("prompt"), "response_format": "b64_json"}
        fields["n"] = controls.pop("num_images", 1)
        image, mask = controls.pop("image", None), controls.pop("mask", None)
        if image is None:
            made = self.openai.images.generate(**fields, extra_body=controls)
        else:
            fields["image"] = ("image.png", png(image))
            if mask is not None:  # which is transparent where it is repainted
                alpha = np.dstack([np.zeros((SIDE, SIDE, 3), np.uint8), 255 - mask])
                fields["mask"] = ("mask.png", png(alpha))
            made = self.openai.images.edit(**fields, extra_body=controls)
        return [Image.open(io.BytesIO(base64.b64decode(one.b64_json))) for one in made.data]


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pictures(controls):
    """Controls with PIL's images in the place of arrays."""
    return {
        name: Image.fromarray(value) if isinstance(value, np.ndarray) else value
        for name, value in controls.items()
    }


def views(pairs):
    """An anagram as JSON has it."""
    return [{"prompt": prompt, "view": view} for prompt, view in pairs]


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    roads = Roads(tmp_path_factory.mktemp("roads"))
    yield roads
    roads.client.http.close()
    roads.openai.close()
    roads.server.stop()


@pytest.fixture(scope="module")
def expected(roads):
    """The library's pictures of each call."""
    return {name: roads.library(**COMMON, **controls) for name, controls in CALLS.items()}


def test_every_call_is_another_picture(expected):
    made = [images.tobytes() for images in expected.values()]
    assert len(set(made)) == len(CALLS)
    for images in expected.values():
        assert images.shape[1:] == (SIDE, SIDE, 3)
    for name in ("inpaint, 4 channels", "inpaint, 9 channels"):
        np.testing.assert_array_equal(expected[name][0, SIDE // 2 :], PICTURE[SIDE // 2 :])


@pytest.mark.parametrize("road", ["own", "webuiapi", "openai_client"])
@pytest.mark.parametrize("call", CALLS)
def test_the_pixels_are_those_of_the_library(roads, expected, road, call):
    made = getattr(roads, road)(**COMMON, **CALLS[call])
    assert len(made) == len(expected[call])
    for image, pixels in zip(made, expected[call], strict=True):
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)


LONG = {"prompt": "a lake", "seed": 5, "guidance_scale": 4.0, "solver": "ddim"}


def last_job(roads):
    return roads.server.client.get("/api/v1/jobs").json()["jobs"][0]


def test_previews_and_a_stop_in_the_library(roads):
    seen = []

    def look(preview):
        seen.append(preview.images.shape)
        return preview.step >= 3

    result = roads.pipes["sd"](**LONG, num_inference_steps=9, on_preview=look, preview_every=1)
    assert result.stopped
    assert len(seen) == 3


def test_previews_and_a_stop_by_the_server_s_own_interface(roads):
    job = roads.client.submit(**LONG, num_inference_steps=900, preview_every=1)
    for event in roads.client.events(job["id"]):
        if event.name == "preview":
            assert event.data["images"][0]["url"].startswith("data:image/")
            roads.client.cancel(job["id"])
    assert roads.client.job(job["id"])["status"] == "cancelled"


def test_previews_and_a_stop_by_webuiapi(roads):
    results = []
    fields = {"prompt": "a lake", "steps": 900, "sampler_name": "DDIM", "seed": 5}
    thread = threading.Thread(target=lambda: results.append(roads.a1111.txt2img(**fields)))
    thread.start()
    while (shown := roads.a1111.get_progress()["current_image"]) is None:
        time.sleep(0.02)
    Image.open(io.BytesIO(base64.b64decode(shown))).load()
    roads.a1111.interrupt()
    thread.join(60)
    assert len(results[0].images) == 1  # what it looked like
    assert last_job(roads)["status"] == "cancelled"


def test_previews_and_a_stop_by_openai(roads):
    stream = roads.openai.images.generate(
        prompt="a lake", stream=True, partial_images=3, extra_body={"num_inference_steps": 900}
    )
    first = next(iter(stream))
    assert first.type == "image_generation.partial_image"
    shown = Image.open(io.BytesIO(base64.b64decode(first.b64_json)))
    assert shown.size == (SIDE, SIDE)
    stream.close()  # the client leaves
    assert roads.server.finished(last_job(roads)["id"], seconds=60)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/sdapi/v1/txt2img", {"prompt": "another"}, "prompt"),
        ("/sdapi/v1/txt2img", {"subseed_strength": 0.5}, "variation_strength"),
        ("/sdapi/v1/img2img", {"init_images": ["eA=="]}, "alwayson_scripts"),
        ("/v1/images/generations", {"prompt": "another"}, "prompt"),
        ("/v1/images/generations", {"prompt": "a lake", "controlnet": "edges"}, "controlnet"),
    ],
)
def test_what_an_anagram_does_not_have_is_named(roads, path, body, field):
    given = views(ANAGRAM)
    if path.startswith("/v1"):
        body = {**body, "anagram": given}
    else:
        body = {**body, "alwayson_scripts": {"Anagram": {"args": given}}}
    answer = roads.server.client.post(path, json=body)
    assert answer.status_code in (400, 422)
    assert f"{field} must be left out" in answer.text or "txt2img" in answer.text
    bad = {**body, "anagram": given[:1], "alwayson_scripts": {"anagram": {"args": given[:1]}}}
    assert roads.server.client.post(path, json=bad).status_code in (400, 422)
