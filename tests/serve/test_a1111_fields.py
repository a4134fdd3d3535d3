"""Every field that an A1111 client sends is done, refused by name, or does no harm."""

import base64
import inspect
import io
import json
from pathlib import Path

import numpy as np
import pytest
import webuiapi
from PIL import Image

from dg2_jax.serve import a1111_fields, a1111_schemas
from dg2_jax.serve.foreign_fields import Ignored, Refused
from dg2_jax.serve.routes import a1111_extras
from tests.serve.fakes import SIZE

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
BASE = {"prompt": "a lake", "seed": 3, "steps": 2}
CALLS = {
    "txt2img": (a1111_fields.CREATE, [a1111_schemas.Create]),
    "img2img": (a1111_fields.CHANGE, [a1111_schemas.Change]),
    "extra-single-image": (
        a1111_fields.EXTRAS,
        [a1111_extras.ExtraSingle, a1111_extras.ExtraBatch],
    ),
}


def encoded(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def gradient(width: int, height: int) -> Image.Image:
    across = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(np.repeat(across[None, :, None], height, 0).repeat(3, 2))


def body_of(call: str) -> dict:
    picture = encoded(gradient(SIZE, SIZE))
    extra = {"txt2img": {}, "img2img": {"init_images": [picture]}}
    return BASE | extra[call] if call in extra else {"image": picture, "upscaler_1": "Lanczos"}


def post(server, call: str, **fields):
    return server.client.post(f"/sdapi/v1/{call}", json=body_of(call) | fields)


def picture_of(answer) -> Image.Image:
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return decoded(told["image"] if "image" in told else told["images"][0])


def refused(answer, name: str, status: int = 422) -> str:
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"error", "detail", "body", "errors"}
    assert name in told["detail"]
    return told["detail"]


# A value that asks for something, where True does not do.
ASKING = {
    "s_noise": 1.1,
    "seed_resize_from_h": 512, "seed_resize_from_w": 512, "s_churn": 3.0, "s_tmax": 1.0,
    "s_tmin": 0.1, "s_min_uncond": 0.5, "refiner_checkpoint": "xl", "infotext": "Steps: 3",
    "hr_checkpoint_name": "xl", "hr_sampler_name": "DDIM",
    "hr_scheduler": "karras", "hr_prompt": "fog", "hr_negative_prompt": "fog",
    "firstphase_width": 64, "firstphase_height": 64, "mask_blur_x": 8, "mask_blur_y": 8,
    "mask_round": False, "initial_noise_multiplier": 1.2, "latent_mask": "eA==",
    "upscaler_2": "Lanczos", "gfpgan_visibility": 0.5, "codeformer_visibility": 0.5,
    "override_settings_restore_afterwards": False,
}  # fmt: skip
TRUE = {
    "enable_hr": {"enable_hr": True},
    "override_settings": {"override_settings": {"CLIP_stop_at_last_layers": 1}},
}


def rows(kind):
    return [
        (call, name)
        for call, (table, _) in CALLS.items()
        for name, row in table.items()
        if isinstance(row, kind)
    ]


def test_refused_fields_are_named(server):
    for call, name in rows(Refused):
        row = CALLS[call][0][name]
        needed = TRUE.get(row.when, {})
        answer = post(server, call, **needed, **{name: ASKING.get(name, True)})
        assert refused(answer, name).startswith(f"{name}: is not done: ")
    assert not server.pipe.calls
    assert not server.client.get("/api/v1/jobs").json()["jobs"]


def test_values_that_ask_for_nothing_and_ignored_fields_change_nothing(server):
    for call in CALLS:
        fields, odd = {}, {}
        for name, row in CALLS[call][0].items():
            if isinstance(row, Refused) and row.off:
                fields[name] = row.off[0]
                if row.when is not None:
                    odd[name] = ASKING[name]
            if isinstance(row, Ignored):
                odd[name] = 0.5
        expected = np.asarray(picture_of(post(server, call)))
        for sent in (fields, odd, dict.fromkeys(fields)):
            np.testing.assert_array_equal(
                np.asarray(picture_of(post(server, call, **sent))), expected
            )


def test_the_tables_are_those_of_the_requests():
    for table, models in CALLS.values():
        done = {name for name, row in table.items() if isinstance(row, str)}
        fields = {name for model in models for name in model.model_fields}
        assert done == fields - set(a1111_schemas.OURS)


def test_every_field_of_webuiapi_has_a_row(monkeypatch):
    api = webuiapi.WebUIApi()
    sent = {}

    def keep(url, payload, _):
        sent[url.rpartition("/")[2]] = payload

    monkeypatch.setattr(api, "post_and_get_api_result", keep)
    red = Image.new("RGB", (8, 8), "red")
    api.txt2img()
    api.img2img([red], mask_image=red)
    api.extra_single_image(red)
    api.extra_batch_images([red])
    assert len(sent) == 4
    for call, payload in sent.items():
        table = CALLS["extra-single-image" if call.startswith("extra") else call][0]
        assert set(payload) <= set(table), call


def told(row) -> str:
    if isinstance(row, str):
        return f"done | {row}"
    if isinstance(row, Ignored):
        return f"ignored | {row.reason}"
    off = "".join(f"but for `{json.dumps(one)}`: " for one in row.off[:1])
    return f"refused{f' with `{row.when}`' if row.when else ''} | {off}{row.reason}"


def documented() -> list[str]:
    """The table of docs/api.md."""
    calls = {"txt2img": a1111_fields.CREATE, "img2img": a1111_fields.CHANGE}
    calls["extra-…"] = a1111_fields.EXTRAS
    where: dict[tuple[str, str], list[str]] = {}
    for call, table in calls.items():
        for name, row in table.items():
            where.setdefault((name, told(row)), []).append(call)
    return [f"| `{name}` | {', '.join(of)} | {text} |" for (name, text), of in where.items()]


def test_the_table_in_the_docs():
    text = DOCS.read_text()
    missing = [line for line in documented() if line not in text]
    assert not missing, "docs/api.md lacks:\n" + "\n".join(documented())


@pytest.mark.parametrize(
    ("call", "field", "values"),
    [
        ("txt2img", "steps", (0, 1001)),
        ("txt2img", "cfg_scale", (1e9, -101)),
        ("txt2img", "width", (-4, 0, 100_000)),
        ("txt2img", "height", (-4,)),
        ("txt2img", "batch_size", (0, -1)),
        ("txt2img", "n_iter", (0,)),
        ("txt2img", "seed", (-2, 2**32)),
        ("txt2img", "hr_scale", (0.5, 9)),
        ("txt2img", "hr_resize_x", (-1,)),
        ("txt2img", "hr_second_pass_steps", (-1, 1001)),
        ("txt2img", "denoising_strength", (-0.1, 1.1)),
        ("img2img", "denoising_strength", (-0.1, 1.1)),
        ("img2img", "resize_mode", (-1, 3)),
        ("img2img", "mask_blur", (-1, 65)),
        ("img2img", "inpainting_fill", (-1, 4)),
        ("img2img", "inpaint_full_res_padding", (-1, 1025)),
        ("extra-single-image", "upscaling_resize", (0.5, 0, 9)),
        ("extra-single-image", "resize_mode", (2,)),
        ("extra-single-image", "upscaling_resize_w", (0,)),
    ],
)
def test_out_of_range(server, call, field, values):
    for value in values:
        refused(post(server, call, **{field: value}), field)


def test_unknown_names_are_404(server):
    for name in ("LMS", "DPM fast Karras", "Karras", "x"):
        refused(post(server, "txt2img", sampler_name=name), "Sampler not found", 404)
    refused(post(server, "txt2img", sampler_index="LMS"), "sampler_index", 404)
    for name in ("beta", "Align Your Steps", "x"):
        refused(post(server, "txt2img", scheduler=name), "Scheduler not found", 404)
    for name in ("LDSR", "Latent (lanczos)", "latent"):
        refused(post(server, "txt2img", enable_hr=True, hr_upscaler=name), "hr_upscaler", 404)
    refused(post(server, "extra-single-image", upscaler_1="LDSR"), "upscaler_1", 404)
    for name, solver in (("k_euler_a", "euler_ancestral"), ("DPM++ 2M SDE", "dpmpp_2m_sde")):
        picture_of(post(server, "txt2img", sampler_name=name))
        assert server.pipe.calls[-1]["solver"] == solver


@pytest.mark.parametrize(
    ("fields", "spacing"),
    [
        ({"scheduler": "Karras"}, "karras"),
        ({"scheduler": "sgm_uniform"}, "trailing"),
        ({"scheduler": "automatic"}, None),
        ({"sampler_name": "DPM++ 2M Karras"}, "karras"),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "exponential"}, "exponential"),
        ({"sampler_name": "DDIM"}, None),
    ],
)
def test_schedulers_space_the_steps(server, fields, spacing):
    picture_of(post(server, "txt2img", **fields))
    assert server.pipe.calls[-1].get("spacing") == spacing


def test_settings_of_a_request(server):
    deep: list = []
    for _ in range(900):
        deep = [deep]
    for name in ("override_settings", "alwayson_scripts"):
        refused(post(server, "txt2img", **{name: {"sd_vae": deep}}), name)
    refused(post(server, "txt2img", anything=deep), "anything")
    refused(post(server, "txt2img", override_settings={"eta_ancestral": 0.5}), "eta_ancestral")
    refused(post(server, "txt2img", override_settings={"sd_model_checkpoint": 5}), "no model '5'")
    refused(post(server, "txt2img", override_settings={"CLIP_stop_at_last_layers": "x"}), "integer")
    assert not server.pipe.calls
    harmless = {"samples_format": "webp", "sd_vae": "Automatic", "sd_model_checkpoint": None}
    picture_of(post(server, "txt2img", override_settings=harmless))
    assert "501" in str(server.client.post("/sdapi/v1/interrogate", json={"image": "x"}))


def test_variations_have_one_seed_and_count_up_the_other(server):
    sent = {"subseed": 8, "subseed_strength": 0.25, "batch_size": 3}
    answer = post(server, "txt2img", **sent)
    picture_of(answer)
    info = json.loads(answer.json()["info"])
    assert (info["all_seeds"], info["all_subseeds"]) == ([3, 3, 3], [8, 9, 10])
    assert (info["subseed"], info["subseed_strength"]) == (8, 0.25)
    used = [(c["seed"], c["variation_seed"], c["variation_strength"]) for c in server.pipe.calls]
    assert used == [([3], 8 + i, 0.25) for i in range(3)]
    assert "variation_seed: 8" in info["infotexts"][0]
    drawn = [
        json.loads(post(server, "txt2img", subseed_strength=0.5).json()["info"])["subseed"]
        for _ in range(2)
    ]
    assert drawn[0] != drawn[1]
    unused = json.loads(post(server, "txt2img", subseed=8).json()["info"])
    assert (unused["subseed"], unused["subseed_strength"]) == (0, 0)
    refused(post(server, "txt2img", subseed_strength=1.5), "subseed_strength")


@pytest.mark.parametrize(
    ("fields", "size", "factor"),
    [
        ({"hr_scale": 1.5, "hr_upscaler": "Lanczos"}, (96, 96), None),
        ({"hr_scale": 2, "hr_upscaler": "Nearest"}, (128, 128), None),
        ({"hr_scale": 1.5, "hr_upscaler": "R-ESRGAN 4x+"}, (96, 96), 2),
        ({"hr_scale": 5, "hr_upscaler": "R-ESRGAN 4x+"}, (320, 320), 4),
        ({"hr_resize_x": 160, "hr_resize_y": 100, "hr_upscaler": "None"}, (160, 100), None),
        ({"hr_resize_x": 160, "hr_upscaler": "Lanczos"}, (160, 160), None),
        ({"hr_resize_y": 200, "hr_upscaler": "R-ESRGAN 4x+"}, (200, 200), 4),
    ],
)
def test_the_second_pass_has_the_size_asked_for(server, fields, size, factor):
    answer = post(server, "txt2img", enable_hr=True, **fields)
    picture, info = picture_of(answer), json.loads(answer.json()["info"])
    assert picture.size == (info["width"], info["height"]) == size
    assert "a lake" in picture.info["parameters"]
    assert server.pipe.calls[-1].get("upscale") == factor
    assert not info["comments"]


LATENT = {
    "": "bilinear",
    "Latent": "bilinear",
    "Latent (antialiased)": "bilinear",
    "Latent (bicubic)": "bicubic",
    "Latent (bicubic antialiased)": "bicubic",
    "Latent (nearest)": "nearest",
    "Latent (nearest-exact)": "nearest",
}


@pytest.mark.parametrize("name", LATENT)
def test_latent_upscalers_make_a_second_pass(server, name):
    size = (2 * SIZE, 2 * SIZE)
    more = {"hr_second_pass_steps": 5, "denoising_strength": 0.4}
    answer = post(server, "txt2img", enable_hr=True, hr_upscaler=name, **more)
    picture, info = picture_of(answer), json.loads(answer.json()["info"])
    assert picture.size == (info["width"], info["height"]) == size
    used = {name: server.pipe.calls[-1].get(name) for name in SECOND}
    assert used == dict(zip(SECOND, (size, LATENT[name], 0.4, 5), strict=True))
    assert (info["denoising_strength"], info["comments"]) == (0.4, "")
    named = [one["name"] for one in server.client.get("/sdapi/v1/latent-upscale-modes").json()]
    assert named == list(LATENT)[1:]


SECOND = ("hires_size", "hires_method", "hires_strength", "hires_steps")


def test_the_size_and_steps_of_a_second_pass(start):
    server = start(sizes=["96x64", "192x128"])
    wide = {"width": 96, "height": 64, "enable_hr": True}
    for fields in ({}, {"hr_resize_x": 192}, {"hr_resize_y": 128, "denoising_strength": None}):
        assert picture_of(post(server, "txt2img", **wide, **fields)).size == (192, 128)
        call = server.pipe.calls[-1]
        assert [call.get(name) for name in SECOND] == [(128, 192), "bilinear", 0.75, None]
        assert (call["width"], call["height"]) == (96, 64)
    for fields, name in (
        ({"hr_scale": 1.5}, "hr_scale"),
        ({"hr_scale": 4}, "hr_scale"),
        ({"hr_resize_x": 200}, "hr_resize_x"),
        ({"hr_resize_y": 200}, "hr_resize_y"),
    ):
        told = refused(post(server, "txt2img", **wide, **fields), name)
        assert "64x64, 96x64, 192x128" in told
    lanczos = {"hr_upscaler": "Lanczos", "hr_second_pass_steps": 5}
    refused(post(server, "txt2img", **wide, **lanczos), "hr_second_pass_steps")
    assert len(server.pipe.calls) == 3


def test_enlarging(server):
    source = gradient(12, 8).convert("RGBA")
    source.putalpha(Image.linear_gradient("L").resize((12, 8)))
    sent = {"image": encoded(source)}

    def made(**fields):
        return picture_of(post(server, "extra-single-image", **sent, **fields))

    same = made(upscaler_1="None", upscaling_resize=4)
    assert same.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(same), np.asarray(source))
    for name in ("Lanczos", "Nearest", "R-ESRGAN 4x+"):
        for factor in (1, 1.5, 3, 8):
            large = made(upscaler_1=name, upscaling_resize=factor)
            assert (large.mode, large.size) == ("RGBA", (round(12 * factor), round(8 * factor)))
    np.testing.assert_array_equal(
        np.asarray(large.getchannel("A")),
        np.asarray(source.getchannel("A").resize((96, 64), Image.Resampling.LANCZOS)),
    )
    box = {"resize_mode": 1, "upscaling_resize_w": 30, "upscaling_resize_h": 30}
    assert made(upscaler_1="Lanczos", **box).size == (30, 30)
    assert made(upscaler_1="Lanczos", **box, upscaling_crop=False).size == (45, 30)


def test_resize_modes(server):
    wide = gradient(2 * SIZE, SIZE)
    across = {}
    for mode in (0, 1):
        post(server, "img2img", init_images=[encoded(wide)], resize_mode=mode)
        call = server.pipe.calls[-1]
        assert call["resize_mode"] == "crop"
        across[mode] = Image.fromarray(call["image"])
    assert (across[0].size, across[1].size) == ((SIZE, SIZE), wide.size)
    ends = np.asarray(across[0])[SIZE // 2, [0, -1], 0]
    assert ends[0] < 10 < 245 < ends[1]  # nothing is cut


def test_defaults_of_the_client_work(server):
    api = webuiapi.WebUIApi(port=server.port, host="127.0.0.1")
    assert len(inspect.signature(api.txt2img).parameters) > 50
    assert api.txt2img().image.size == (SIZE, SIZE)
    red = Image.new("RGB", (SIZE, SIZE), "red")
    assert api.img2img([red]).image.size == (SIZE, SIZE)
    assert api.img2img([red], mask_image=red).image.size == (SIZE, SIZE)
    assert api.extra_single_image(red).image.size == (SIZE, SIZE)
    assert len(api.extra_batch_images([red, red]).images) == 2
    assert api.txt2img(enable_hr=True).image.size == (2 * SIZE, 2 * SIZE)
