"""DiffusionGen2's endpoints: the calls that its page makes, in its order, with its fields."""

import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image

from tests.serve.fakes import SIZE, FakePipeline
from tests.serve.test_jobs import png
from tests.serve.test_survival import wait_for

PAGE = {
    "prompt": "a lake", "second_prompt": "", "negative_prompt": "fog", "steps": 20, "cfg": 12,
    "seed": None, "batch_size": 1, "use_ema": True, "use_ddpm": False, "use_real_esrgan": False,
    "real_time_denoising": False, "preview_interval": 5, "b64_image": None,
    "img2img_strength": 0.75, "b64_inpaint_image": None, "b64_inpaint_mask": None,
    "use_prompt_matching": False, "prompt_match_train": False, "prompt_match_val": False,
}  # fmt: skip


@pytest.fixture
def legacy(start):
    return start(legacy_api=True)


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text, validate=True))))


def generate(server, **fields):
    return server.client.post("/generate", json=PAGE | fields)


def test_the_calls_of_its_page(start):
    server = start(legacy_api=True, step_seconds=0.02)
    get = server.client.get
    assert get("/health").json() == {
        "status": "ok", "device": "cpu", "model_loaded": True, "vae_loaded": True,
        "clip_loaded": True,
    }  # fmt: skip
    assert get("/progress").json() == {"progress": 0}
    assert get("/preview").json() == {"image": None, "step": None, "total_steps": None}
    found = get("/random_prompt", params={"split": "train", "category": "any"}).json()
    assert found == {"prompt": "a lake at dawn"}

    server.pipe.go.clear()
    answers = []
    fields = {"prompt": found["prompt"], "seed": 7, "batch_size": 2, "real_time_denoising": True}
    asking = threading.Thread(target=lambda: answers.append(generate(server, **fields)))
    asking.start()
    wait_for(lambda: get("/preview").json()["total_steps"] == 20)
    assert get("/progress").json() == {"progress": 0}
    server.pipe.go.set()
    wait_for(lambda: get("/preview").json()["image"] is not None)
    shown = get("/preview").json()
    if shown["image"] is not None:  # else it has ended meanwhile
        assert shown["step"] in (5, 10, 15)
        assert decoded(shown["image"]).ndim == 3
        assert 0 <= get("/progress").json()["progress"] <= 100
    asking.join(20)
    assert answers[0].status_code == 200
    reply = answers[0].json()
    assert set(reply) == {"images", "prompt", "seed"}
    assert (reply["prompt"], reply["seed"], len(reply["images"])) == ("a lake at dawn", 7, 2)
    expected = FakePipeline()(
        "a lake at dawn", "fog", 2, seed=7, guidance_scale=6.0, solver="ddim",
        num_inference_steps=20,
    )  # fmt: skip
    for text, picture in zip(reply["images"], expected.images, strict=True):
        np.testing.assert_array_equal(decoded(text), picture)
    assert get("/progress").json() == {"progress": 100}  # so that its page stops asking
    assert get("/progress", headers={"X-Client-ID": "another"}).json() == {"progress": 0}
    jobs = server.client.get("/api/v1/jobs").json()["jobs"]
    assert [(job["status"], job["request"]["guidance_scale"]) for job in jobs] == [("done", 6.0)]


def test_fields_reach_the_job(legacy):
    picture, mask = png(), png(mode="L", color=255)
    cases = [
        ({"use_ddpm": True, "use_ema": False, "steps": 5000},
         {"kind": "txt2img", "solver": "ddpm", "weights": "raw", "num_inference_steps": 1000}),
        ({"b64_image": picture, "img2img_strength": 0.4},
         {"kind": "img2img", "strength": 0.4, "strength_mode": "full"}),
        ({"b64_inpaint_image": picture, "b64_inpaint_mask": mask, "img2img_strength": 7},
         {"kind": "inpaint", "strength": 1.0, "strength_mode": "full"}),
        ({"b64_inpaint_image": picture}, {"kind": "img2img"}),
        ({"use_real_esrgan": True}, {"upscale": 1, "upscaler": "x4plus"}),
        ({"cfg": -20, "seed": -1}, {"guidance_scale": -10.0, "seed": 2**32 - 1}),
        ({"prompt": "lake dawn", "use_prompt_matching": True, "prompt_match_train": True},
         {"prompt": "a lake at dawn"}),
    ]  # fmt: skip
    for fields, expected in cases:
        reply = generate(legacy, **fields)
        assert reply.status_code == 200, reply.text
        assert decoded(reply.json()["images"][0]).shape == (SIZE, SIZE, 3)
        job = legacy.client.get("/api/v1/jobs").json()["jobs"][0]
        assert expected.items() <= job["request"].items()
        assert reply.json()["prompt"] == job["request"]["prompt"]
        assert reply.json()["seed"] == job["request"]["seed"]


def test_a_second_prompt_is_an_anagram(legacy):
    matched = {"use_prompt_matching": True, "prompt_match_val": True, "prompt": "pond noon"}
    reply = generate(legacy, second_prompt="a volcano", cfg=8, **matched).json()
    assert reply["prompt"] == "a pond at noon"
    job = legacy.client.get("/api/v1/jobs").json()["jobs"][0]
    assert job["request"]["guidance_scale"] == 8
    assert job["request"]["anagram"] == [
        {"prompt": "a pond at noon", "view": "identity"},
        {"prompt": "a volcano", "view": "rot180"},
    ]


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"use_prompt_matching": True}, 400, "Exactly one of"),
        ({"use_prompt_matching": True, "prompt_match_train": True, "prompt_match_val": True}, 400,
         "Exactly one of"),
        ({"second_prompt": "x", "b64_image": png()}, 400, "second_prompt"),
        ({"b64_inpaint_mask": png(mode="L", color=255)}, 400, "b64_inpaint_mask"),
        ({"b64_image": "eA=="}, 422, "b64_image"),
        ({"b64_inpaint_image": "eA=="}, 422, "b64_inpaint_image"),
        ({"steps": 0}, 422, "steps"),
        ({"cfg": 1e6}, 422, "cfg"),
        ({"batch_size": 1000}, 422, "batch_size"),
        ({"prompt": None}, 422, "prompt"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_its_words(legacy, fields, status, word):
    answer = generate(legacy, **fields)
    assert answer.status_code == status
    assert word in answer.json()["detail"]


def test_random_prompts(legacy):
    def ask(**query):
        return legacy.client.get("/random_prompt", params=query)

    assert ask(split="val", category="lakes").json() == {"prompt": "a pond at noon"}
    assert ask(split="train", category="mountains").json() == {"prompt": "a snowy summit"}
    for query, detail in (
        ({"split": "test"}, "Invalid split"),
        ({"split": "train", "category": "none"}, "Invalid category"),
    ):
        answer = ask(**query)
        assert (answer.status_code, answer.json()["detail"]) == (400, detail)


def test_it_is_there_only_where_asked_for(server, start, tmp_path):
    assert server.client.post("/generate", json=PAGE).status_code == 404
    assert server.client.get("/progress").status_code == 404
    guarded = start(data=tmp_path / "guarded", legacy_api=True, api_key="open sesame")
    key = {"X-API-Key": "wrong"}
    for method, path in (("POST", "/generate"), ("GET", "/progress"), ("GET", "/preview"),
                         ("GET", "/random_prompt"), ("GET", "/health")):  # fmt: skip
        assert guarded.client.request(method, path, headers=key).status_code == 401
