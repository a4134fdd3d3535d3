"""What a picture says of itself brings every control back, in every format."""

import io
import json

import pytest
from PIL import Image

from dg2_jax.controls.declaration import KINDS
from dg2_jax.models.folder import EMBEDDED
from dg2_jax.serve import exif, infotext
from dg2_jax.serve.job_controls import of_kind
from tests.serve.fakes import SIZE
from tests.serve.test_jobs import png

FORMATS = ("png", "webp", "jpeg")
TYPED = ' two, "words": (here:1.2)\nand a line'
GIVEN = {
    "prompt": TYPED,
    "negative_prompt": "Steps: 3, fog",
    "source_prompt": "7",
    "num_images": 1,
    "solver": "ddpm",
    "eta": 0.0,  # an inversion sets it
    "inversion": "ddpm",
    "model": "demo",
    "autoguidance_model": "demo",
    "autoguidance_scale": 2.0,
    "prompt_matching": None,
    "embed_metadata": True,
    "upscaler": "animevideov3",
    "inpaint_upscaler": "animevideov3",
    "preview_mode": "vae",
    "width": 96,
    "height": SIZE,
    "outpaint": [0, 0, 16, 0],
    "hires_size": [SIZE, SIZE],
    "styles": [],  # which are in the prompts of what was made
    "anagram": [{"prompt": TYPED, "view": "identity"}, {"prompt": "b", "view": "rot180"}],
}


STABLE_DIFFUSION = {
    "original_size", "crops_coords_top_left", "target_size", "clip_skip", "controlnet",
    "controlnet_conditioning_scale", "control_guidance_start", "control_guidance_end",
    "control_preprocessor", "decoder",
}  # fmt: skip


def changed(control):
    """A value that is not the default."""
    if control.name in GIVEN:
        return GIVEN[control.name]
    told = control.values.describe()
    if told["type"] == "choice":
        return next(choice for choice in reversed(told["choices"]) if choice != control.default)
    if told["type"] == "boolean":
        return not control.default
    if told["type"] == "integer":
        return told["minimum"] + 2
    if told["type"] == "number":
        return min(told["maximum"], max(told["minimum"], 0.375))
    if told["type"] == "text":
        return "a: b, c"
    assert told["type"] in ("integers", "numbers"), control.name
    return [256, 512] if told["type"] == "integers" else [0.25, 0.75]


def request_of_all(kind, **more):
    """With every control at another value than its default, but for what `demo` refuses."""
    controls = {
        name: changed(control)
        for name, control in of_kind(kind).items()
        if name not in STABLE_DIFFUSION
    }
    if "inversion" in controls:
        controls["variation_strength"] = 0.0  # inversion starts from no drawn noise
    if kind in ("img2img", "inpaint", "upscale"):
        controls["image"] = png()
    return {"kind": kind, **controls, **more}


def restored(server, image, suffix):
    data = server.client.get(f"/api/v1/images/{image['id']}.{suffix}").content
    assert Image.open(io.BytesIO(data)).format == suffix.upper()
    return server.client.post("/api/v1/png-info", files={"file": data}).json()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_control_comes_back(start, kind, suffix):
    server = start(sizes=["96x64"])
    more = {}
    if kind == "inpaint":
        more = {"mask": png(mode="L", color=255), "outpaint": None}
        more["inpaint_upscaler"] = "animevideov3"  # in every installation
    job = server.finished(server.submit(**request_of_all(kind, **more))["id"])
    assert job["status"] == "done", job["error"]
    found = restored(server, job["images"][0], suffix)
    assert found["request"] == job["request"]
    again = server.finished(server.client.post("/api/v1/jobs", json=found["request"]).json()["id"])
    assert again["images"][0]["sha256"] == job["images"][0]["sha256"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_holds_every_control(kind):
    """Those that `demo` refuses as well."""
    metadata = {name: changed(control) for name, control in of_kind(kind).items()}
    metadata |= {"kind": kind, "image": "in_1", "mask": "in_2", "control_image": "in_3", "seed": 3}
    if kind == "anagram":
        pairs = [(reading["prompt"], reading["view"]) for reading in metadata["anagram"]]
        metadata["anagram"] = pairs
    found = infotext.to_fields(infotext.write(metadata))
    lost = {"num_images", "embed_metadata", "prompt_matching"}  # of a job, not of a picture
    for name, control in of_kind(kind).items():
        if name not in lost:
            expected = json.loads(json.dumps(metadata[name]))
            assert found.get(name, control.default) == expected, name
    assert [found[name] for name in ("image", "mask", "control_image")] == ["in_1", "in_2", "in_3"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_outpainting_comes_back(server, suffix):
    fields = {"kind": "inpaint", "prompt": "x", "image": png(), "outpaint": [0, 8, 16, 0]}
    job = server.finished(server.submit(**fields)["id"])
    asked = job["request"] | {"width": SIZE, "height": SIZE}  # told, though it is the model's own
    assert restored(server, job["images"][0], suffix)["request"] == asked


@pytest.mark.parametrize("suffix", ["webp", "jpeg"])
def test_pictures_without_settings_get_none(server, suffix):
    job = server.finished(server.submit(prompt="x", embed_metadata=False)["id"])
    found = restored(server, job["images"][0], suffix)
    assert (found["metadata"], found["parameters"], found["request"]) == (None, None, None)


@pytest.fixture
def three(start, tmp_path):
    """A server whose model "three" has three sets of weights."""
    folder = tmp_path / "models" / "three"
    folder.mkdir(parents=True)
    files = {f"denoiser.{name}.safetensors": digit * 64
             for name, digit in (("ema", "a"), ("raw", "b"), ("fast", "c"))}  # fmt: skip
    demo = json.loads((EMBEDDED["demo"] / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(demo | {"files": files, "default_size": SIZE}))
    return start(models_dir=folder.parent)


def test_infotext_names_the_weights_and_their_hash(three):
    seen = {}
    for weights in ("ema", "raw", "fast"):
        job = three.finished(three.submit(prompt="x", model="three", weights=weights)["id"])
        found = restored(three, job["images"][0], "png")
        pairs = infotext.parse(found["parameters"])
        assert pairs["Weights"] == weights
        seen[weights] = pairs["Model hash"]
        assert found["request"]["weights"] == weights
    assert seen == {"ema": "a" * 10, "raw": "b" * 10, "fast": "c" * 10}
    models = {
        model["model_name"]: model["hash"]
        for model in three.client.get("/sdapi/v1/sd-models").json()
    }
    assert (models["three"], models["three-raw"], models["three-fast"]) == tuple(seen.values())
    body = {"prompt": "x", "override_settings": {"sd_model_checkpoint": "three-raw"}}
    answer = three.client.post("/sdapi/v1/txt2img", json=body).json()
    info = json.loads(answer["info"])
    assert (info["sd_model_name"], info["sd_model_hash"]) == ("three-raw", seen["raw"])
    assert "Weights: raw" in info["infotexts"][0]


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("Euler a", {"solver": "euler_ancestral"}),
        ("DPM++ 2M Karras", {"solver": "dpmpp_2m", "spacing": "karras"}),
        ("DPM++ 2M, Schedule type: Karras", {"solver": "dpmpp_2m", "spacing": "karras"}),
        ("Euler, Schedule type: SGM Uniform", {"solver": "euler", "spacing": "trailing"}),
        ("Euler, Schedule type: Automatic", {"solver": "euler"}),
        ("DPM++ 2M SDE Exponential", {"solver": "dpmpp_2m_sde", "spacing": "exponential"}),
        ("DPM++ 2M Beta", {"solver": "dpmpp_2m"}),
        ("DDIM", {"solver": "ddim"}),
        ("ddpm_large", {"solver": "ddpm_large"}),
        ("unipc", {"solver": "unipc"}),
    ],
)
def test_samplers_of_other_programs_are_understood(sampler, expected):
    text = f"a lake\nSteps: 30, Sampler: {sampler}, CFG scale: 6.5, Seed: 42, Size: 512x512"
    found = infotext.to_fields(text)
    assert found == {
        "prompt": "a lake", "negative_prompt": "", "num_inference_steps": 30, **expected,
        "guidance_scale": 6.5, "seed": 42,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("label", "skip"), [("1", None), ("2", 1), ("12", 11), ("0", None), ("x", None), ("-3", None)]
)
def test_clip_skip_of_other_programs_counts_the_last_layer(label, skip):
    text = f"a lake\nSteps: 30, CFG scale: 6.5, Seed: 42, Clip skip: {label}, Size: 512x512"
    assert infotext.to_fields(text).get("clip_skip") == skip


@pytest.mark.parametrize("suffix", ["webp", "jpeg"])
def test_other_programs_find_the_text_in_exif(server, suffix):
    prompt = "ein See, »früh« 🌅"
    job = server.finished(server.submit(prompt=prompt, seed=3)["id"])
    data = server.client.get(f"/api/v1/images/{job['images'][0]['id']}.{suffix}").content
    comment = Image.open(io.BytesIO(data)).getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    text = comment[8:].decode("utf-16-be")
    assert text.startswith(prompt + "\nSteps: 20, ")
    answer = server.client.post(
        "/v1/images/generations",
        json={"prompt": prompt, "seed": 3, "output_format": suffix, "response_format": "b64_json"},
    ).json()
    shown = {"image": answer["data"][0]["b64_json"]}
    assert server.client.post("/api/v1/png-info", json=shown).json()["request"]["prompt"] == prompt


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        (b"UNICODE\0" + "a lake".encode("utf-16-be"), "a lake"),
        (b"UNICODE\0" + "a lake".encode("utf-16-le"), "a lake"),
        (b"UNICODE\0" + "a lake".encode("utf-16"), "a lake"),
        (b"ASCII\0\0\0a lake", "a lake"),
        (bytes(8) + "ä".encode(), "ä"),
        (b"JIS\0\0\0\0\0abc", None),
        (b"", None),
        (b"UNICODE\0", None),
    ],
)
def test_texts_in_exif_of_other_programs(comment, text):
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = comment
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=block.tobytes())
    assert exif.text_of(Image.open(out)) == text


def test_settings_too_long_for_exif_are_left_out(server):
    """JPEG holds 64 kB of it; the picture is there all the same."""
    readings = [{"prompt": "🌅" * 4000, "view": view}
                for view in ("identity", "rot90", "rot180", "rot270")]  # fmt: skip
    job = server.finished(server.submit(kind="anagram", anagram=readings)["id"])
    assert restored(server, job["images"][0], "png")["request"]["anagram"] == readings
    assert restored(server, job["images"][0], "jpeg")["request"] is None
