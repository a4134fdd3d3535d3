"""Bodies of JSON that mean several things, or are no JSON, are refused before any work."""

import importlib
import pkgutil

import pytest

from dg2_jax.serve import routes
from dg2_jax.serve.routing import MAX_DEPTH, Router
from tests.serve.live import LiveServer
from tests.serve.test_stopping import shape

CALLS = {
    "/api/v1/jobs": '"kind": "txt2img", "prompt": "a lake"',
    "/api/v1/styles/x": '"prompt": "a lake"',
    "/sdapi/v1/txt2img": '"prompt": "a lake", "steps": 2',
    "/v1/images/generations": '"prompt": "a lake", "num_inference_steps": 2',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = LiveServer(tmp_path_factory.mktemp("strict"))
    yield server
    server.stop()


def send(server, path, body):
    method = "PUT" if "styles" in path else "POST"
    headers = {"Content-Type": "application/json"}
    return server.client.request(method, path, content=body, headers=headers)


def nested(depth, one="[]"):
    return one[0] * depth + one[1] * depth


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    ("more", "field"),
    [
        (f'"override_settings": {{"sd_vae": {nested(900)}}}', "override_settings"),
        (f'"override_settings": {nested(5000)}', "body"),
        (f'"anything": {nested(MAX_DEPTH + 1)}', "anything"),
        (f'"init_images": [[{nested(MAX_DEPTH)}]]', "init_images"),
        ('"a": ' + '{"b": ' * 100 + "1" + "}" * 100, "a"),
        ('"guidance_scale": 1e400', "guidance_scale"),
        ('"override_settings": {"CLIP_stop_at_last_layers": NaN}', "override_settings"),
        ('"override_settings": {"CLIP_stop_at_last_layers": [1, -Infinity]}', "override_settings"),
        ('"seed": 1, "seed": 2', "seed"),
        ('"override_settings": {"eta": 1, "eta": 2}', "eta"),
        (f'"seed": {"1" * 5000}', "body"),
    ],
)
def test_what_is_refused(server, path, more, field):
    answer = send(server, path, f"{{{CALLS[path]}, {more}}}")
    assert answer.status_code == (400 if path.startswith("/v1") else 422), answer.text
    assert field in shape(path, answer)
    if path.startswith("/api"):
        assert answer.json()["errors"][0]["field"] == field
    if path.startswith("/v1"):
        assert answer.json()["error"]["param"] == field
    assert not server.pipe.calls
    assert not server.client.get("/api/v1/jobs").json()["jobs"]
    assert not server.client.get("/api/v1/styles").json()["styles"]


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("body", [nested(100_000), '{"a":' * 100_000, b'{"prompt": "\xff"}', "{"])
def test_what_is_no_json(server, path, body):
    answer = send(server, path, body)
    assert answer.status_code in (400, 422), answer.text
    shape(path, answer)


def test_depths_that_units_of_extensions_have_are_taken(server):
    unit = {"args": [{"enabled": False, "image": {"image": "x"}}]}
    answer = server.client.post(
        "/sdapi/v1/txt2img", json={"steps": 2, "alwayson_scripts": {"controlnet": unit}}
    )
    assert answer.status_code == 200, answer.text
    assert server.pipe.calls.pop()["num_inference_steps"] == 2
    for job in server.client.get("/api/v1/jobs").json()["jobs"]:
        server.client.delete(f"/api/v1/jobs/{job['id']}", params={"forget": True})


def test_a_form_says_each_thing_once(server):
    twice = [("prompt", (None, "a")), ("image", ("a.png", b"x")), ("n", (None, "1"))]
    answer = server.client.post("/v1/images/edits", files=[*twice, ("n", (None, "2"))])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


def test_every_router_reads_strictly():
    for module in pkgutil.iter_modules(routes.__path__):
        found = importlib.import_module(f"{routes.__name__}.{module.name}")
        assert isinstance(found.router, Router), module.name
