"""The server over a small Stable Diffusion model and another one, for every kind of client."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
from openai import OpenAI
from PIL import Image

from dg2_jax.controls.declaration import KINDS
from dg2_jax.serve.models import Models, load_pipeline
from tests import tiny_model
from tests.sd_models import GOLDEN
from tests.serve.live import LiveServer

FEW = {"num_inference_steps": 2, "seed": 5}
SIDE = 32


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two models of one folder: `sd`, the default, and `tiny`; with adapters and a ControlNet."""
    base = tmp_path_factory.mktemp("models")
    shutil.copytree(GOLDEN / "sd2_small", base / "models" / "sd")
    shutil.copytree(GOLDEN / "xl_small", base / "models" / "xl")
    tiny_model.save(base / "models" / "tiny")
    shutil.copytree(GOLDEN / "sd2_small", base / "models" / "part")
    shutil.rmtree(base / "models" / "part" / "vae")
    (base / "models" / "flux").mkdir()
    (base / "models" / "flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    shutil.copytree(GOLDEN / "controlnet_sd2", base / "controlnets" / "edges")
    (base / "loras").mkdir()
    shutil.copy(GOLDEN / "sd1_tiny" / "lora_kohya.safetensors", base / "loras" / "ink.safetensors")
    folders = {name: base / name for name in ("loras", "controlnets")}
    server = LiveServer(
        base / "data",
        load=lambda place: load_pipeline(place, **folders),
        model=f"{base}/models/sd,{base}/models/tiny",
        models_dir=base / "models",
        **folders,
    )
    yield server
    server.stop()


def picture(shade=128):
    out = io.BytesIO()
    pixels = np.full((SIDE, SIDE, 3), shade, np.uint8)
    pixels[8:24, 8:24] = 255 - shade
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def done(server, **fields):
    job = server.finished(server.submit(**{**FEW, **fields})["id"], seconds=300)
    assert job["status"] == "done", job["error"]
    return job


def refused(server, **fields):
    answer = server.client.post("/api/v1/jobs", json={"kind": "txt2img", "prompt": "x", **fields})
    assert answer.status_code == 422, answer.text
    return answer.json()["errors"][0]["field"]


def test_the_models_say_what_they_are(server):
    offer = server.client.get("/api/v1/options").json()
    models = {one["name"]: one for one in offer["models"]}
    assert next(iter(models)) == "sd"
    assert {"sd", "tiny", "xl", "part", "demo"} == models.keys()
    assert (models["sd"]["size"], models["xl"]["size"]) == (SIDE, SIDE)
    assert models["sd"]["sampling"]["ema"]["guidance_scale"] == 7.5
    assert "original_size" in models["sd"]["lacks"]
    assert "original_size" not in models["xl"]["lacks"]
    assert {"clip_skip", "controlnet"} <= set(models["tiny"]["lacks"])
    assert (offer["loras"], offer["embeddings"]) == (["ink"], [])
    controls = {one["name"]: one for one in offer["controls"]}
    assert controls["controlnet"]["choices"] == ["edges"]
    assert len({one["hash"] for one in models.values() if one["name"] != "part"}) == 4


def test_every_kind_of_job(server):
    image, mask = picture(), picture(0)
    anagram = [{"prompt": "a lake", "view": "identity"}, {"prompt": "snow", "view": "rot180"}]
    jobs = {
        "txt2img": {"prompt": "a lake", "num_images": 2, "clip_skip": 1},
        "img2img": {"prompt": "a lake", "image": image, "strength": 0.6},
        "inpaint": {"prompt": "a lake", "image": image, "mask": mask},
        "anagram": {"anagram": anagram},
    }
    assert jobs.keys() == set(KINDS) - {"upscale"}
    for kind, fields in jobs.items():
        job = done(server, kind=kind, **fields)
        assert job["request"]["model"] == "sd"
        assert job["request"]["guidance_scale"] == 7.5
        assert all(one["width"] == SIDE for one in job["images"])


def test_models_are_switched_by_a_field(server):
    for name in ("tiny", "sd", "xl"):
        job = done(server, prompt="a lake", model=name)
        assert job["images"][0]["metadata"]["model"] == name
    job = done(server, prompt="a lake", model="xl", original_size=[16, 16], target_size=[64, 64])
    assert job["request"]["crops_coords_top_left"] is None


def test_what_a_model_lacks_is_refused_before_it_is_stored(server):
    assert refused(server, model="tiny", clip_skip=1) == "clip_skip"
    assert refused(server, clip_skip=9) == "clip_skip"
    assert refused(server, original_size=[64, 64]) == "original_size"
    assert refused(server, controlnet="/etc/passwd", control_image=picture()) == "controlnet"
    assert refused(server, controlnet="edges") == "control_image"
    assert refused(server, prompt="a <lora:nothing:1>") == "prompt"
    assert refused(server, negative_prompt="<lora:ink:1>") == "negative_prompt"
    job = server.finished(server.submit(prompt="a lake <lora:ink:1>", **FEW)["id"], seconds=300)
    assert job["status"] == "failed"
    assert "names the LoRA 'ink', but" in job["error"]["detail"]


def test_a_model_with_a_missing_part_says_which(server):
    job = server.finished(server.submit(prompt="a lake", model="part", **FEW)["id"], seconds=60)
    assert job["status"] == "failed"
    assert "part has no folder vae" in job["error"]["detail"]
    assert job["error"]["status"] == 422


def test_a_controlnet_follows_its_picture(server):
    plain = done(server, prompt="a lake")["images"][0]["sha256"]
    given = {"prompt": "a lake", "controlnet": "edges", "control_image": picture()}
    followed = done(server, **given)
    assert followed["images"][0]["sha256"] != plain
    again = done(server, **{**followed["request"]})
    assert again["images"][0]["sha256"] == followed["images"][0]["sha256"]
    off = done(server, **given, controlnet_conditioning_scale=0)
    assert off["images"][0]["sha256"] == plain
    png = server.client.get(followed["images"][0]["url"]).content
    restored = server.client.post("/api/v1/png-info", files={"file": png}).json()["request"]
    assert restored["controlnet"] == "edges"
    assert restored["control_image"] == followed["request"]["control_image"]


def test_an_a1111_client(server):
    listed = server.client.get("/sdapi/v1/loras").json()
    assert [one["name"] for one in listed] == ["ink"]
    offered = [
        server.client.get(f"/controlnet/{name}").json()
        for name in ("version", "model_list", "module_list?alias_names=true", "settings")
    ]
    plain = {"model_free": False, "sliders": []}
    assert offered == [
        {"version": 2},
        {"model_list": ["edges"]},
        {"module_list": ["none", "canny"], "module_detail": {"none": plain, "canny": plain}},
        {"control_net_unit_count": 1},
    ]
    titles = [one["title"] for one in server.client.get("/sdapi/v1/sd-models").json()]
    assert len(titles) == 8  # of five models, two of which have more than one set of weights
    unit = {"model": "edges", "weight": 0.8, "guidance_end": 0.9, "image": picture()}
    body = {
        "prompt": "a lake",
        "steps": 2,
        "seed": 5,
        "override_settings": {"CLIP_stop_at_last_layers": 2},
        "alwayson_scripts": {"controlnet": {"args": [unit]}},
    }
    answer = server.client.post("/sdapi/v1/txt2img", json=body, timeout=300).json()
    info = json.loads(answer["info"])
    assert (info["clip_skip"], info["sd_model_name"], info["cfg_scale"]) == (2, "sd", 7.5)
    request = server.client.get("/api/v1/jobs").json()["jobs"][0]["request"]
    assert (request["controlnet"], request["controlnet_conditioning_scale"]) == ("edges", 0.8)
    body["alwayson_scripts"]["controlnet"]["args"] = [{**unit, "module": "depth_midas"}]
    answer = server.client.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 422
    assert "there is no preprocessor 'depth_midas'" in answer.text
    for units in ("edges", ["edges"]):
        body["alwayson_scripts"]["controlnet"]["args"] = units
        answer = server.client.post("/sdapi/v1/txt2img", json=body)
        assert answer.status_code == 422
        assert "the args of controlnet must be a list of units" in answer.text


def test_an_openai_client(server):
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    assert {one.id for one in client.models.list()} >= {"sd", "xl", "tiny"}
    made = client.images.generate(
        model="xl", prompt="a lake", response_format="b64_json", extra_body=FEW
    )
    image = Image.open(io.BytesIO(base64.b64decode(made.data[0].b64_json)))
    assert image.size == (SIDE, SIDE)


def test_a_running_job_stops(server):
    job = server.submit(prompt="a lake", num_inference_steps=500)
    server.client.delete(f"/api/v1/jobs/{job['id']}")
    assert server.finished(job["id"], seconds=60)["status"] == "cancelled"


def test_models_of_one_name_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "sd").mkdir(parents=True)
    told = f"{tmp_path}/a/sd, {tmp_path}/b/sd, owner/name, demo"
    models = Models(told)
    assert models.names == ["demo", "sd", "sd-2", "name"]
    assert models.default == "sd"
    assert models.place("sd-2") == f"{tmp_path}/b/sd"
    assert models.facts("name") is None  # nothing is fetched to describe it
    single = tmp_path / "with, comma.safetensors"
    single.write_bytes(b"")
    assert Models(str(single)).names == ["demo", "with, comma"]
