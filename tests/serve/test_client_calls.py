"""Seldom-used calls of the clients that people have: done, or refused by name."""

import asyncio
import base64
import io
import warnings

import httpx
import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image, ImageDraw

from dg2_jax.serve import pictures
from tests.serve.fakes import SIZE, FakePipeline
from tests.serve.live import run_async

RED = Image.new("RGB", (SIZE, SIZE), "red")


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.fixture
def a1111(server):
    return webuiapi.WebUIApi(port=server.port, host="127.0.0.1")


@pytest.fixture
def openai_client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_several_pictures_are_changed_one_after_the_other(a1111):
    blue = Image.new("RGB", (SIZE, SIZE), "blue")
    made = a1111.img2img(images=[RED, blue], prompt="x", seed=5, batch_size=2)
    alone = [a1111.img2img(images=[image], prompt="x", seed=5).image for image in (RED, blue)]
    assert len(made.images) == 2
    for found, expected in zip(made.images, alone, strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert made.info["all_seeds"] == [5, 5]


def test_a_second_pass(server, a1111):
    latent = webuiapi.HiResUpscaler.Latent
    made = a1111.txt2img(prompt="x", enable_hr=True, hr_scale=2, hr_upscaler=latent)
    assert made.image.size == (2 * SIZE, 2 * SIZE)
    assert server.pipe.calls[-1]["hires_size"] == (2 * SIZE, 2 * SIZE)
    assert not made.info["comments"]


def test_what_the_masked_part_starts_from(server, a1111):
    picture = RED.copy()
    mask = Image.new("L", (SIZE, SIZE), 0)
    for image, colour in ((picture, "blue"), (mask, 255)):
        ImageDraw.Draw(image).rectangle((20, 20, 40, 40), fill=colour)

    def start(fill: int) -> tuple[np.ndarray, float]:
        a1111.img2img(images=[picture], mask_image=mask, prompt="x", inpainting_fill=fill)
        call = server.pipe.calls[-1]
        return call["image"][30, 30], call["strength"]

    assert (start(0)[0] == (255, 0, 0)).all()  # the colour around
    assert (start(1)[0] == (0, 0, 255)).all()
    assert start(1)[1] == 0.75
    assert start(2)[1] == 1.0


def test_surroundings_keep_what_is_not_white():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    mask = Image.new("L", (60, 40), 0)
    ImageDraw.Draw(mask).rectangle((10, 5, 30, 25), fill=255)
    found = np.asarray(pictures.surroundings(picture, mask))
    white = np.asarray(mask) > 0
    np.testing.assert_array_equal(found[~white], np.asarray(picture)[~white])
    assert found[white].std() < np.asarray(picture)[white].std()
    large, hole = picture.resize((1500, 1000)), mask.resize((1500, 1000))
    found, white = np.asarray(pictures.surroundings(large, hole)), np.asarray(hole) >= 128
    np.testing.assert_array_equal(found[~white], np.asarray(large)[~white])
    assert found[white].std() < np.asarray(large)[white].std()
    everything = Image.new("L", (60, 40), 255)
    assert pictures.surroundings(picture, everything) == picture


def test_what_there_is_not_is_refused_by_name(a1111):
    unit = webuiapi.ControlNetUnit(image=RED, module="canny", model="canny")
    with pytest.raises(RuntimeError, match=r"422.*controlnet is not there"):
        a1111.txt2img(prompt="x", alwayson_scripts={}, controlnet_units=[unit])
    idle = {"ADetailer": {"args": [False]}, "ControlNet": {"args": [{"enabled": False}]}}
    assert a1111.txt2img(prompt="x", alwayson_scripts=idle).image.size == (SIZE, SIZE)
    with pytest.raises(RuntimeError, match=r"422.*x/y/z plot"):
        a1111.txt2img(prompt="x", script_name="x/y/z plot", script_args=[1])
    with pytest.raises(RuntimeError, match=r"422.*batch_size times n_iter must be at most 64"):
        a1111.txt2img(prompt="x", batch_size=10, n_iter=10)
    with pytest.raises(RuntimeError, match=r"501.*no model that describes pictures"):
        a1111.interrogate(RED)
    with pytest.raises(RuntimeError, match=r"422.*init_images"):
        a1111.post_and_get_api_result(
            f"{a1111.baseurl}/img2img", {"init_images": ["http://example.org/a.png"]}, False
        )


def test_webuiapi_asynchronously(a1111):
    async def several():
        return await asyncio.gather(
            a1111.txt2img(prompt="a lake", seed=3, use_async=True),
            a1111.img2img(images=[RED], prompt="x", use_async=True),
            a1111.extra_single_image(RED, upscaler_1="Lanczos", upscaling_resize=2, use_async=True),
        )

    lake, _, large = run_async(several())
    expected = FakePipeline()("a lake", seed=3, guidance_scale=7.0, solver="euler_ancestral")
    np.testing.assert_array_equal(np.asarray(lake.image), expected.images[0])
    assert large.image.size == (2 * SIZE, 2 * SIZE)


def test_openai_variations(server, openai_client):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        reply = openai_client.images.create_variation(image=png(RED), n=2, size="256x256")
    assert [decoded(entry.b64_json).size for entry in reply.data] == [(SIZE, SIZE)] * 2
    calls = server.pipe.calls  # one for each picture, since they share batches step by step
    assert [call["prompt"] for call in calls] == [[""]] * 2
    assert all((call["image"] == (255, 0, 0)).all() for call in calls)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_openai_formats(start, fmt):
    server = start(step_seconds=0.01)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)
    reply = client.images.generate(prompt="x", response_format="url", output_format=fmt)
    answer = httpx.get(reply.data[0].url)
    assert answer.headers["content-type"] == f"image/{fmt}"
    assert Image.open(io.BytesIO(answer.content)).format == fmt.upper()
    events = list(
        client.images.generate(prompt="x", stream=True, partial_images=3, output_format=fmt)
    )
    assert [decoded(event.b64_json).format for event in events] == [fmt.upper()] * 4
    assert {event.output_format for event in events} == {fmt}


def test_openai_sizes_and_fields_of_other_models(openai_client):
    square = {"size": "auto", "quality": "auto", "background": "opaque", "moderation": "low"}
    wide = {"size": "1792x1024", "quality": "hd", "style": "vivid", "user": "u"}
    for fields, size in ((square, f"{SIZE}x{SIZE}"), (wide | {"model": "dall-e-3"}, "96x64")):
        reply = openai_client.images.generate(prompt="x", **fields)
        assert (reply.size, reply.background) == (size, "opaque")
    for fields, name in (({"output_format": "gif"}, "output_format"), ({"n": 0}, "n")):
        with pytest.raises(openai.BadRequestError) as caught:
            openai_client.images.generate(prompt="x", **fields)
        assert caught.value.param == name
    two = [("a.png", png(RED)), ("b.png", png(RED))]
    with pytest.raises(openai.BadRequestError, match="exactly one picture"):
        openai_client.images.edit(image=two, prompt="x")
    with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
        openai_client.chat.completions.create(model="demo", messages=[])


def test_openai_asynchronously(start):
    server = start(step_seconds=0.01)

    async def calls():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="x", max_retries=0
        ) as client:
            made, changed = await asyncio.gather(
                client.images.generate(prompt="a lake", n=2, extra_body={"seed": 1}),
                client.images.edit(image=png(RED), prompt="x"),
            )
            stream = await client.images.generate(prompt="x", stream=True, partial_images=1)
            return made, changed, [event.type async for event in stream]

    made, changed, kinds = run_async(calls())
    expected = FakePipeline()("a lake", num_images=2, seed=1).images
    for entry, pixels in zip(made.data, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(decoded(entry.b64_json)), pixels)
    assert len(changed.data) == 1
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
