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
    out = io.BytesIO()
    Image.fromarray(source).save(out, "PNG")
    image = base64.b64encode(out.getvalue()).decode()
    job = finished(real, kind="img2img", prompt="a lake", image=image, strength=0.7)
    direct = real.pipe("a lake", image=source, strength=0.7, **FAST)
    np.testing.assert_array_equal(pixels(real, job["images"][0]), direct.images[0])


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
