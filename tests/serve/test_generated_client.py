"""A client that is generated from the OpenAPI document, without a warning, and works."""

import base64
import importlib
import io
import json
import re
import subprocess
import sys
import time

import pytest

from tests.serve.fakes import SIZE
from tests.serve.live import LiveServer
from tests.serve.test_jobs import png


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = LiveServer(tmp_path_factory.mktemp("generated"), api_key="open sesame")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    """Imports modules of the generated client: made("api.jobs.submit_job")."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(json.dumps(server.app.openapi()))
    (folder / "settings.yml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    command += ["--path", "openapi.json", "--config", "settings.yml", "--meta", "none"]
    done = subprocess.run(
        [*command, "--output-path", "generated_dg2"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"generated_dg2.{name}")
    sys.path.remove(str(folder))


@pytest.fixture
def client(server, made):
    kinds = made("client")
    with kinds.AuthenticatedClient(
        server.url, "open sesame", raise_on_unexpected_status=True
    ) as client:
        yield client


def test_a_job_from_its_submission_to_its_picture(made, client):
    models = made("models")
    asked = models.Txt2Img(prompt="a lake", seed=7, weights=models.Txt2ImgWeights.RAW)
    submit, get = (made(f"api.jobs.{name}").sync for name in ("submit_job", "get_job"))
    job = submit(client=client, body=asked, idempotency_key="once")
    assert isinstance(job, models.JobView)
    again = submit(client=client, body=asked, idempotency_key="once")
    assert (again.id, again.request["weights"]) == (job.id, "raw")
    while (job := get(job.id, client=client)).status not in ("done", "failed"):
        time.sleep(0.02)
    (image,) = job.images
    assert (job.status, image.seed, image.width) == ("done", 7, SIZE)
    suffix = models.GetImageSuffix.PNG
    picture = made("api.pictures.get_image").sync_detailed(image.id, suffix, client=client)
    assert picture.content.startswith(b"\x89PNG")


def test_pictures_are_uploaded_and_changed(made, client):
    models, types = made("models"), made("types")
    file = io.BytesIO(base64.b64decode(png()))
    form = models.UploadInputForm(types.File(file, "a.png", "image/png"))
    stored = made("api.pictures.upload_input").sync(client=client, body=form)
    assert (stored.width, stored.height) == (32, 24)
    body = models.Img2Img(image=stored.id, prompt="x")
    job = made("api.jobs.submit_job").sync(client=client, body=body)
    assert job.request["image"] == stored.id
    info = made("api.pictures.read_png_info")
    read = info.sync(client=client, body=models.ReadPngInfoPngInfoRequest(stored.id))
    assert (read.width, read.metadata) == (32, None)


def test_options_are_read(made, client):
    options = made("api.server.get_options").sync(client=client)
    assert "txt2img" in options["choices"]["kind"]
    health = made("api.server.get_health").sync(client=client)
    assert health["ready"] is True
    assert made("api.server.get_ready").sync(client=client)["state"] == "ready"


def test_errors_are_typed_in_each_interface(made, client, server):
    models = made("models")
    submit = made("api.jobs.submit_job")
    wrong = submit.sync_detailed(client=client, body=models.Txt2Img(guidance_scale=101))
    assert (wrong.status_code, type(wrong.parsed)) == (422, models.Problem)
    assert wrong.parsed.errors[0].field == "guidance_scale"
    missing = made("api.jobs.get_job").sync("none", client=client)
    assert (type(missing), missing.status) == (models.Problem, 404)
    theirs = made("api.a1111.a1111_txt2img").sync(client=client, body=models.Create(steps=0))
    assert isinstance(theirs, models.A1111Error)
    assert "steps" in theirs.detail
    body = models.ImageRequest(prompt="x", size="1x1")
    refused = made("api.open_ai.openai_generations").sync(client=client, body=body)
    assert isinstance(refused, models.OpenAIError)
    assert refused.error.param == "size"
    stranger = made("client").Client(server.url)
    unknown = submit.sync(client=stranger, body=models.Txt2Img())
    assert (type(unknown), unknown.status) == (models.Problem, 401)


def test_names_are_distinct_and_plain(server):
    document = server.app.openapi()
    schemas = document["components"]["schemas"]
    assert all(re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) for name in schemas)
    titles = [schema.get("title", name) for name, schema in schemas.items()]
    assert len(set(titles)) == len(titles)
    operations = [(p, o) for p, methods in document["paths"].items() for o in methods.values()]
    names = [operation["operationId"] for _, operation in operations]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    assert not any(name.endswith(("_get", "_post", "_put", "_delete")) for name in names)
    for path, operation in operations:
        kinds = {
            schema["schema"]["$ref"].rpartition("/")[2]
            for status, answer in operation["responses"].items()
            if status >= "400" and (path, status) != ("/api/v1/ready", "503")
            for schema in answer["content"].values()
        }
        theirs = {"/sdapi/": "A1111Error", "/v1/": "OpenAIError"}
        expected = next((name for start, name in theirs.items() if path.startswith(start)), None)
        assert kinds == {expected or "Problem"}, path
