"""The server over a real pipeline, of a small untrained model."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dg2_jax import Pipeline
from tests import tiny_model
from tests.serve.live import LiveServer

FAST = {"num_inference_steps": 3, "seed": 5}


@pytest.fixture(scope="module", params=["unet", "dit"])
def real(request, tmp_path_factory):
    """A server whose one model is a tiny one."""
    folder = tmp_path_factory.mktemp(request.param) / "tiny"
    tiny_model.save(folder, request.param)
    pipe = Pipeline.load(folder)
    server = LiveServer(tmp_path_factory.mktemp("data"), pipe=pipe, model=str(folder))
    server.architecture = request.param
    yield server
    server.stop()


def pixels(server, image):
    data = server.client.get(image["url"]).content
    return np.asarray(Image.open(io.BytesIO(data)))


def encoded(picture):
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def finished(server, **fields):
    job = server.finished(server.submit(**FAST, **fields)["id"], seconds=300)
    assert job["status"] == "done", job["error"]
    return job


def test_pictures_are_those_of_the_library(real):
    if real.architecture == "dit":
        pytest.skip("one architecture suffices")
    settings = {"guidance_rescale": 0.5, "apg_momentum": -0.3, "guidance_interval": (0.1, 0.9)}
    job = finished(real, prompt="a lake", negative_prompt="fog", **settings)
    direct = real.pipe("a lake", "fog", **FAST, **settings)
    np.testing.assert_array_equal(pixels(real, job["images"][0]), direct.images[0])
    assert job["images"][0]["width"] == job["images"][0]["metadata"]["width"] == 32

    source = np.tile(np.arange(32, dtype=np.uint8)[:, None, None] * 8, (1, 32, 3))
    image = encoded(source)
    job = finished(real, kind="img2img", prompt="a lake", image=image, strength=0.7)
    direct = real.pipe("a lake", image=source, strength=0.7, **FAST)
    np.testing.assert_array_equal(pixels(real, job["images"][0]), direct.images[0])


def test_a_region_of_a_photograph_by_both_interfaces(real):
    """The photograph keeps its size, and what the picture says of itself makes it again."""
    if real.architecture == "dit":
        pytest.skip("one architecture suffices")
    photograph = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    mask = np.zeros((90, 70), np.uint8)
    mask[40:52, 20:30] = 255
    image, painted = map(encoded, (photograph, mask))
    area = {"inpaint_area": "only_masked", "inpaint_padding": 6, "strength": 1.0}
    job = finished(real, kind="inpaint", prompt="a lake", image=image, mask=painted, **area)
    direct = real.pipe("a lake", image=photograph, mask=mask, **area, **FAST).images[0]
    made = job["images"][0]
    np.testing.assert_array_equal(pixels(real, made), direct)
    assert (made["width"], made["height"]) == (70, 90)
    assert (made["metadata"]["width"], made["metadata"]["height"]) == (32, 32)
    file = base64.b64encode(real.client.get(made["url"]).content).decode()
    read = real.client.post("/api/v1/png-info", json={"image": file}).json()["request"]
    assert {name: read[name] for name in area} == area
    again = real.finished(real.submit(**read)["id"], seconds=300)
    assert again["status"] == "done", again["error"]
    np.testing.assert_array_equal(pixels(real, again["images"][0]), direct)

    body = {
        "prompt": "a lake", "init_images": [image], "mask": painted, "steps": 3, "seed": 5,
        "denoising_strength": 1.0, "inpainting_fill": 1, "width": 32, "height": 32,
        "cfg_scale": 2.5, "sampler_name": "dpmpp_2m", "inpaint_full_res_padding": 6,
    }  # fmt: skip
    for full, size in ((True, (70, 90)), (None, (70, 90)), (False, (32, 32))):
        sent = body if full is None else {**body, "inpaint_full_res": full}
        answer = real.client.post("/sdapi/v1/img2img", json=sent)
        assert answer.status_code == 200, answer.text
        picture = Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))
        assert picture.size == size
        if full is not False:
            np.testing.assert_array_equal(np.asarray(picture), direct)


def test_what_this_model_cannot_do_is_refused_before_it_is_stored(real):
    def refused(**fields):
        body = {"kind": "txt2img", "prompt": "x", **fields}
        answer = real.client.post("/api/v1/jobs", json=body)
        return answer.json()["errors"][0]["field"] if answer.status_code == 422 else None

    reuse = refused(reuse_every=2, num_inference_steps=1)
    assert reuse == ("reuse_every" if real.architecture == "dit" else None)
    assert refused(weights="fast") == "weights"
    edit = {"kind": "inpaint", "image": "eA=="}
    assert refused(**edit, outpaint=[15, 0, 14, 0]) == "outpaint"
    assert refused(width=32 + 8) == "width"
    outside = {**edit, "outpaint": [8, 0, 0, 0], "inpaint_area": "only_masked"}
    assert refused(**outside) == "inpaint_area"
    region = {"mask": "eA==", "inpaint_area": "only_masked", "inpaint_upscaler": "x2plus"}
    assert refused(**edit, **region) == "inpaint_upscaler"  # its weights are not here
