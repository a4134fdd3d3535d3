"""The clients that people have, unmodified, and ours."""

import asyncio
import base64
import io
import threading
import time

import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image

from dg2_jax.serve.client import AsyncClient, Client, JobCancelledError, ServerError
from tests.serve.fakes import SIZE, FakePipeline
from tests.serve.live import run_async


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def half_mask() -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE), 0)
    mask.paste(255, (0, 0, SIZE // 2, SIZE))
    return mask


@pytest.fixture
def a1111(server):
    return webuiapi.WebUIApi(port=server.port, host="127.0.0.1")


@pytest.fixture
def openai_client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
        yield client


# webuiapi


def test_webuiapi_txt2img(server, a1111):
    result = a1111.txt2img(prompt="a lake", negative_prompt="fog", seed=3, batch_size=2, n_iter=2)
    assert len(result.images) == 4
    expected = FakePipeline()(
        "a lake", "fog", 4, seed=3, guidance_scale=7.0, solver="euler_ancestral"
    )
    np.testing.assert_array_equal(np.asarray(result.images[3]), expected.images[3])
    assert result.info["all_seeds"] == [3, 4, 5, 6]
    assert result.info["batch_size"] == 2
    assert result.info["sampler_name"] == "Euler a"
    assert (result.info["width"], result.info["height"]) == (SIZE, SIZE)
    assert result.info["infotexts"][0].startswith("a lake\nNegative prompt: fog\nSteps: 20, ")


def test_webuiapi_img2img_and_inpainting(server, a1111):
    image = Image.new("RGB", (SIZE, SIZE), "red")
    plain = a1111.img2img(images=[image], prompt="x", seed=1, denoising_strength=0.4)
    assert server.pipe.calls[-1]["strength"] == 0.4
    assert plain.image.size == (SIZE, SIZE)
    painted = a1111.img2img(images=[image], mask_image=half_mask(), prompt="x", seed=1)
    found = np.asarray(painted.image)
    assert (found[:, SIZE // 2 :] == (255, 0, 0)).all()
    assert not (found[:, : SIZE // 2] == (255, 0, 0)).all()
    inverted = a1111.img2img(
        images=[image], mask_image=half_mask(), prompt="x", inpainting_mask_invert=1
    )
    assert (np.asarray(inverted.image)[:, : SIZE // 2] == (255, 0, 0)).all()
    alpha = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    alpha.paste((0, 0, 0, 255), (0, 0, SIZE // 2, SIZE))
    by_alpha = a1111.img2img(images=[image], mask_image=alpha, prompt="x", seed=1)
    np.testing.assert_array_equal(np.asarray(by_alpha.image), found)


def test_webuiapi_progress_and_interrupt(start):
    server = start(step_seconds=0.05)
    api = webuiapi.WebUIApi(port=server.port, host="127.0.0.1")
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"]) == (0, 0)
    results = []
    thread = threading.Thread(target=lambda: results.append(api.txt2img(prompt="x", steps=200)))
    thread.start()
    while api.get_progress()["current_image"] is None:
        time.sleep(0.02)
    busy = api.get_progress()
    assert 0 < busy["progress"] < 1
    assert busy["state"]["job_count"] == 1
    assert busy["state"]["sampling_steps"] == 200
    decoded(busy["current_image"]).load()
    assert api.interrupt() == {}
    thread.join(5)
    assert not thread.is_alive()
    assert len(results[0].images) == 1  # what it looked like
    assert server.pipe.steps_run < 190
    api.util_wait_for_ready(0.01)


def test_webuiapi_lists_and_options(a1111):
    assert "Euler a" in a1111.util_get_sampler_names()
    names = {"automatic", "karras", "exponential", "uniform", "sgm_uniform", "ddim"}
    assert set(a1111.util_get_scheduler_names()) == names
    title = a1111.util_get_model_names()[0]
    assert a1111.util_get_current_model() == title
    a1111.util_set_model("demo")
    assert a1111.set_options({"sd_model_checkpoint": title, "other": 1}) is None
    assert {"None", "Lanczos", "R-ESRGAN 4x+"} <= {u["name"] for u in a1111.get_upscalers()}
    assert a1111.skip() is None
    assert a1111.get_loras() == []
    assert a1111.get_scripts() == {"txt2img": [], "img2img": []}
    for name in (
        "get_sd_vae", "get_hypernetworks", "get_face_restorers", "get_realesrgan_models",
        "get_prompt_styles", "get_embeddings", "get_memory", "get_cmd_flags",
        "get_latent_upscale_modes", "refresh_checkpoints",
    ):  # fmt: skip
        getattr(a1111, name)()


def test_webuiapi_extras_and_png_info(server, a1111):
    image = Image.new("RGB", (20, 10), "blue")
    big = a1111.extra_single_image(image, upscaler_1="R-ESRGAN 4x+", upscaling_resize=4)
    assert big.image.size == (80, 40)
    lanczos = a1111.extra_single_image(image, upscaler_1="Lanczos", upscaling_resize=3)
    assert lanczos.image.size == (60, 30)
    both = a1111.extra_batch_images([image, image], upscaler_1="Lanczos", upscaling_resize=2)
    assert [i.size for i in both.images] == [(40, 20)] * 2
    made = a1111.txt2img(prompt="a lake", seed=9).image
    info = a1111.png_info(made)
    assert info.info.startswith("a lake\nSteps: 20, Sampler: euler_ancestral")
    assert info.parameters["Seed"] == "9"


def test_webuiapi_with_a_password(start):
    server = start(api_key="open sesame")
    stranger = webuiapi.WebUIApi(port=server.port, host="127.0.0.1")
    with pytest.raises(RuntimeError, match="401"):
        stranger.txt2img(prompt="x")
    friend = webuiapi.WebUIApi(
        port=server.port, host="127.0.0.1", username="any", password="open sesame"
    )
    assert friend.txt2img(prompt="x").image.size == (SIZE, SIZE)


def test_a1111_defaults_null_and_odd_values(server):
    url = "/sdapi/v1/txt2img"
    answer = server.client.post(url, json={})
    assert answer.json()["parameters"]["steps"] == 50
    odd = {"seed": None, "steps": 2.0, "new_field": {"a": 1}}
    assert server.client.post(url, json=odd).status_code == 200
    refused = server.client.post(url, json={"prompt": 5})
    assert refused.status_code == 422
    assert set(refused.json()) == {"error", "detail", "body", "errors"}


def test_a1111_jobs_of_clients_that_leave_are_cancelled(start):
    server = start(step_seconds=0.05)
    with pytest.raises(Exception, match="timed out"):
        server.client.post("/sdapi/v1/txt2img", json={"steps": 500}, timeout=0.5)
    while not (jobs := server.client.get("/api/v1/jobs").json()["jobs"]):
        time.sleep(0.02)
    assert server.finished(jobs[0]["id"], seconds=10)["status"] == "cancelled"


# openai


def test_openai_generate(server, openai_client):
    reply = openai_client.images.generate(
        prompt="a lake", model="gpt-image-1", n=2, size="1024x1024", extra_body={"seed": 5}
    )
    expected = FakePipeline()("a lake", num_images=2, seed=5).images
    for entry, pixels in zip(reply.data, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(decoded(entry.b64_json)), pixels)
    assert reply.size == f"{SIZE}x{SIZE}"
    assert reply.usage.total_tokens > 0
    jpeg = openai_client.images.generate(prompt="x", output_format="jpeg", output_compression=50)
    assert decoded(jpeg.data[0].b64_json).format == "JPEG"


def test_openai_url_and_revised_prompt(start):
    server = start(api_key="open sesame")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="open sesame")
    reply = client.images.generate(
        prompt="lake dawn", response_format="url", extra_body={"prompt_matching": "train"}
    )
    assert reply.data[0].revised_prompt == "a lake at dawn"
    import httpx

    assert Image.open(io.BytesIO(httpx.get(reply.data[0].url).content)).size == (SIZE, SIZE)
    other = reply.data[0].url.replace("_000.png", "_001.png")
    assert httpx.get(other).status_code == 401
    assert next(m.id for m in client.models.list()) == "demo"
    assert client.models.retrieve("demo").owned_by == "dg2_jax"


def test_openai_edit(server, openai_client):
    image, mask = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), "red").save(image, "PNG")
    hole = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (0, 0, SIZE // 2, SIZE))
    hole.save(mask, "PNG")
    reply = openai_client.images.edit(
        image=("a.png", image.getvalue()), mask=("m.png", mask.getvalue()), prompt="x", n=1
    )
    found = np.asarray(decoded(reply.data[0].b64_json))
    assert (found[:, SIZE // 2 :] == (255, 0, 0)).all()
    assert not (found[:, : SIZE // 2] == (255, 0, 0)).all()
    reply = openai_client.images.edit(
        image=[("a.png", image.getvalue())], prompt="x", extra_body={"strength": 0.25}
    )
    assert server.pipe.calls[-1]["strength"] == 0.25


def test_openai_streams(start):
    server = start(step_seconds=0.02)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused")
    events = list(client.images.generate(prompt="x", stream=True, partial_images=2))
    kinds = [event.type.split(".")[1] for event in events]
    assert kinds == ["partial_image", "partial_image", "completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert decoded(events[0].b64_json).size == (SIZE, SIZE)
    image = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), "red").save(image, "PNG")
    events = list(
        client.images.edit(image=image.getvalue(), prompt="x", stream=True, partial_images=1)
    )
    assert [event.type for event in events][-1] == "image_edit.completed"
    with pytest.raises(openai.APIError, match="kinder"):
        list(client.images.generate(prompt="!value", stream=True))


def test_openai_errors(start, openai_client, tmp_path):
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.images.generate(prompt="x", n=11)
    assert caught.value.param == "n"
    with pytest.raises(openai.InternalServerError):
        openai_client.images.generate(prompt="!crash")
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("none")
    locked = start(api_key="open sesame", data=tmp_path / "other")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key="wrong").models.list()


# ours


def test_our_client(start):
    server = start(step_seconds=0.01)
    seen = []
    with Client(server.url, client_id="me") as client:
        made = client.generate(prompt="a lake", num_images=2, seed=4, on_progress=seen.append)
        expected = FakePipeline()("a lake", num_images=2, seed=4).images
        np.testing.assert_array_equal(np.asarray(made[1]), expected[1])
        assert seen[-1]["fraction"] > 0.9
        changed = client.generate(kind="img2img", image=made[0], prompt="x")
        assert changed[0].size == (SIZE, SIZE)
        with pytest.raises(ServerError, match="controlnet"):  # which the server has none of
            client.submit(prompt="x", controlnet="canny", control_image=made[0])
        with pytest.raises(ServerError, match="guidance_scale"):
            client.submit(guidance_scale=-101)
        with pytest.raises(ServerError, match="kinder"):
            client.generate(prompt="!value")
        job = client.submit(prompt="x", num_inference_steps=1000)
        assert client.cancel(job["id"])["status"] == "cancelled"


def test_our_async_client(start):
    server = start(step_seconds=0.01)

    async def several():
        async with AsyncClient(server.url) as client:
            return await asyncio.gather(
                *(client.generate(prompt=f"p{i}", seed=i) for i in range(5))
            )

    for i, made in enumerate(run_async(several())):
        np.testing.assert_array_equal(
            np.asarray(made[0]), FakePipeline()(f"p{i}", seed=i).images[0]
        )


def test_our_clients_raise_where_a_job_is_cancelled(start):
    server = start(step_seconds=0.01)

    def stop(_):
        for job in server.client.get("/api/v1/jobs").json()["jobs"]:
            server.client.delete(f"/api/v1/jobs/{job['id']}")

    long = {"prompt": "x", "num_inference_steps": 1000, "on_progress": stop}
    with Client(server.url) as client, pytest.raises(JobCancelledError, match="cancelled") as told:
        client.generate(**long)
    assert (told.value.status, told.value.job["status"]) == (409, "cancelled")
    assert isinstance(told.value, ServerError)

    async def asked():
        async with AsyncClient(server.url) as client:
            await client.generate(**long)

    with pytest.raises(JobCancelledError, match="cancelled"):
        run_async(asked())
