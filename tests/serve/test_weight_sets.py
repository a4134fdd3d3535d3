"""Weights that want settings of their own, through every interface."""

import json

import openai
import pytest
import webuiapi

from dg2_jax.models.folder import EMBEDDED
from tests.tiny_model import FAST


@pytest.fixture
def quick(start, tmp_path):
    """A server whose model "quick" has fast weights."""
    folder = tmp_path / "models" / "quick"
    folder.mkdir(parents=True)
    files = {f"denoiser.{name}.safetensors": "" for name in ("ema", "fast")}
    demo = json.loads((EMBEDDED["demo"] / "config.json").read_text())
    config = demo | {"files": files, "sampling": {"fast": FAST}, "default_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    return start(models_dir=folder.parent)


def test_what_a_request_does_not_say_is_what_its_weights_want(quick):
    wanted = {"model": "quick", "weights": "fast"}
    job = quick.submit(prompt="x", **wanted)
    assert (FAST | wanted).items() <= job["request"].items()
    quick.finished(job["id"])
    assert FAST.items() <= quick.pipe.calls[-1].items()
    job = quick.submit(prompt="x", guidance_scale=2, num_inference_steps=9, **wanted)
    assert (job["request"]["guidance_scale"], job["request"]["num_inference_steps"]) == (2, 9)
    assert (job["request"]["solver"], job["request"]["spacing"]) == ("ddim", "trailing")
    job = quick.submit(prompt="x", model="quick")
    assert (job["request"]["num_inference_steps"], job["request"]["solver"]) == (20, "dpmpp_2m")


def test_a_model_without_such_weights_says_so(quick):
    request = {"kind": "txt2img", "prompt": "x", "model": "quick", "weights": "raw"}
    answer = quick.client.post("/api/v1/jobs", json=request)
    assert answer.status_code == 422
    error = answer.json()["errors"][0]
    assert error["field"] == "weights"
    assert "weights must be one of ema, fast with the model quick" in answer.text


def test_lists_of_weights(quick):
    found = quick.client.get("/api/v1/weights", params={"model": "quick"}).json()
    assert found == {"weights": ["ema", "fast"], "default": "ema", "sampling": {"fast": FAST}}
    models = quick.client.get("/api/v1/options").json()["models"]
    assert models[-1]["sampling"] == {"fast": FAST}


def test_a1111_clients_choose_them_as_a_checkpoint(quick):
    api = webuiapi.WebUIApi(port=quick.port, host="127.0.0.1")
    assert any(name.startswith("quick-fast [") for name in api.util_get_model_names())
    api.util_set_model("quick-fast")
    assert api.util_get_current_model().startswith("quick-fast [")
    post = quick.client.post
    assert post("/sdapi/v1/txt2img", json={"prompt": "x"}).status_code == 200
    assert (FAST | {"weights": "fast"}).items() <= quick.pipe.calls[-1].items()
    said = {"prompt": "x", "steps": 6, "sampler_name": "Euler"}
    assert post("/sdapi/v1/txt2img", json=said).status_code == 200
    call = quick.pipe.calls[-1]
    assert (call["num_inference_steps"], call["solver"], call["guidance_scale"]) == (6, "euler", 1)


def test_openai_clients_choose_them_by_a_field(quick):
    with openai.OpenAI(base_url=f"{quick.url}/v1", api_key="unused") as client:
        body = {"weights": "fast"}
        client.images.generate(prompt="x", model="quick", extra_body=body)
        assert (FAST | body).items() <= quick.pipe.calls[-1].items()
        with pytest.raises(openai.APIStatusError, match="weights must be one of ema"):
            client.images.generate(prompt="x", model="quick", extra_body={"weights": "raw"})
