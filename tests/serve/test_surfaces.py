"""Every control is on every surface, or there is a reason why not."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dg2_jax import Pipeline
from dg2_jax.controls.arguments import declared
from dg2_jax.controls.declaration import KINDS
from dg2_jax.models.folder import SAMPLING
from dg2_jax.serve import a1111_schemas, openai_schemas
from dg2_jax.serve.job_controls import CONTROLS, of_kind
from dg2_jax.serve.schemas import REQUESTS
from tests.serve.fakes import SIZE

ROOT = Path(__file__).parents[2]
OF_SERVER = {
    name: "belongs to the server"
    for name in ("model", "prompt_matching", "styles", "embed_metadata")
}
# What is missing where, and why; what is in the tables of the two foreign interfaces is there.
EXCEPTIONS = {
    "Pipeline": OF_SERVER,
    "scripts.sample": {
        "prompt_matching": "bank.Bank.match does it",
        "styles": "are the server's own texts",
        "embed_metadata": "its PNGs always carry their settings",
        "preview_every": "--animate takes every step",
        "preview_mode": "--animate decodes in full",
    },
    "OpenAI": openai_schemas.NOT_HERE,
    "A1111": a1111_schemas.NOT_HERE,
}


def on_pipeline(_):
    return set(inspect.signature(Pipeline.__call__).parameters)


def on_script(_):
    shown = subprocess.run(
        [sys.executable, "-m", "scripts.sample", "--help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    return set(re.findall(r"^  --(?:\[no\])?(\w+):", shown, re.MULTILINE))


def of_schema(server, name):
    schemas = server.client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    return set(schemas[name]["properties"])


SURFACES = {
    "Pipeline": on_pipeline,
    "scripts.sample": on_script,
    "OpenAI": lambda server: of_schema(server, "ImageRequest"),
    "A1111": lambda server: of_schema(server, "Create"),
    "options": lambda server: {
        one["name"] for one in server.client.get("/api/v1/options").json()["controls"]
    },
}


@pytest.mark.parametrize("surface", SURFACES)
def test_every_control_is_there_or_excused(server, surface):
    excused = EXCEPTIONS.get(surface, {})
    shown = SURFACES[surface](server)
    assert set(CONTROLS) - shown <= set(excused)
    assert set(excused) <= set(CONTROLS)
    assert all(excused.values())


@pytest.mark.parametrize("kind", KINDS)
def test_requests_have_the_controls_of_their_kind_and_the_bounds_of_the_declaration(server, kind):
    fields = set(of_kind(kind)) | {"kind"}
    inputs = {
        "txt2img": {"control_image"},
        "img2img": {"image", "control_image"},
        "inpaint": {"image", "mask", "control_image"},
        "upscale": {"image"},
    }
    assert set(REQUESTS[kind].model_fields) == fields | inputs.get(kind, set())
    schemas = server.client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    properties = schemas[REQUESTS[kind].__name__]["properties"]
    for name, control in of_kind(kind).items():
        told = control.values.describe()
        if told["type"] in ("integer", "number"):
            shown = properties[name].get("anyOf", [properties[name]])[0]
            assert (shown["type"], shown["minimum"], shown["maximum"]) == (
                told["type"],
                told["minimum"],
                told["maximum"],
            )
        if name in SAMPLING:  # which is by model and weights
            assert "default" not in properties[name]
        elif name != "anagram" and control.default is not None:
            assert properties[name]["default"] == json.loads(json.dumps(control.default))


def test_options_tell_bounds_that_jobs_are_held_to(start):
    server = start(max_images=5)
    controls = server.client.get("/api/v1/options").json()["controls"]
    assert [one["name"] for one in controls] == list(CONTROLS)
    by_name = {one["name"]: one for one in controls}
    assert by_name["num_images"]["maximum"] == 5
    assert by_name["autoguidance_model"]["choices"] == ["demo"]
    for one in controls:
        if one["type"] in ("integer", "number") and "txt2img" in one["kinds"]:
            for beyond in (one["minimum"] - 1, one["maximum"] + 1):
                body = {"kind": "txt2img", one["name"]: beyond}
                answer = server.client.post("/api/v1/jobs", json=body)
                assert answer.status_code == 422, one["name"]
                assert answer.json()["errors"][0]["field"] == one["name"]
        if one["type"] == "choice" and "txt2img" in one["kinds"]:
            body = {"kind": "txt2img", one["name"]: "none of them"}
            answer = server.client.post("/api/v1/jobs", json=body)
            assert answer.json()["errors"][0]["field"] == one["name"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"num_inference_steps": 1001}, "num_inference_steps"),
        ({"autoguidance_model": "nobody", "autoguidance_scale": 2}, "autoguidance_model"),
        ({"autoguidance_scale": 2}, "autoguidance_scale"),
        ({"weights": "slow"}, "weights"),
        ({"width": 80}, "width"),
        ({"width": 640, "height": 640}, "width"),
        ({"height": 96, "width": 96}, "width"),
        (
            {"kind": "inpaint", "image": "eA==", "outpaint": [0, 0, 8, 0], "num_resamples": 2},
            "num_resamples",
        ),
        ({"guidence_scale": 2}, "guidence_scale"),
        ({"guidance_interval": [0.9, 0.1]}, "guidance_interval"),
        ({"hires_size": [256, 256]}, "hires_size"),
        ({"hires_size": [100, 128]}, "hires_size"),
        ({"hires_size": [128, 128], "hires_steps": 1001}, "hires_steps"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_stored(server, fields, field):
    answer = server.client.post("/api/v1/jobs", json={"kind": "txt2img", **fields})
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert server.client.get("/api/v1/jobs").json()["jobs"] == []


def test_sizes_are_those_of_the_operator_and_of_the_model(start):
    server = start(sizes=["96x64", "64x96", "100x100"])  # the last is no multiple of the networks'
    offer = server.client.get("/api/v1/options").json()
    assert offer["models"][0]["sizes"] == [[SIZE, SIZE], [96, 64], [64, 96]]
    assert offer["models"][0]["hires_sizes"] == offer["models"][0]["sizes"]
    job = server.finished(server.submit(prompt="x", width=96, seed=1, upscale=2)["id"])
    assert (job["request"]["width"], job["request"]["height"]) == (96, 64)
    image = job["images"][0]
    assert (image["width"], image["height"]) == (192, 128)
    assert (image["metadata"]["width"], image["metadata"]["height"]) == (96, 64)
    png = server.client.get(image["url"]).content
    again = server.client.post("/api/v1/png-info", files={"file": png}).json()["request"]
    repeated = server.finished(server.client.post("/api/v1/jobs", json=again).json()["id"])
    assert repeated["images"][0]["sha256"] == image["sha256"]
    own = server.submit(prompt="x", width=SIZE, height=SIZE)
    assert (own["request"]["width"], own["request"]["height"]) == (None, None)


@pytest.mark.parametrize(
    ("asked", "used"), [((1536, 1024), (96, 64)), ((512, 512), (64, 64)), ((400, 900), (64, 96))]
)
def test_other_clients_get_the_nearest_aspect_and_are_told(start, asked, used):
    server = start(sizes=["96x64", "64x96"])
    width, height = asked
    body = {"prompt": "x", "steps": 2, "width": width, "height": height}
    answer = server.client.post("/sdapi/v1/txt2img", json=body).json()
    info = json.loads(answer["info"])
    assert (info["width"], info["height"]) == used
    height -= height % 16  # as OpenAI asks for it
    body = {"prompt": "x", "size": f"{width}x{height}", "num_inference_steps": 2}
    answer = server.client.post("/v1/images/generations", json=body).json()
    assert answer["size"] == f"{used[0]}x{used[1]}"


def test_other_clients_reach_controls_by_our_names(server):
    ours = {"guidance_rescale": 0.5, "apg_momentum": -0.5, "guidance_interval": [0.1, 0.9]}
    used = ours | {"guidance_interval": (0.1, 0.9)}
    server.client.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": 2, **ours})
    assert used.items() <= server.pipe.calls[-1].items()
    server.client.post("/v1/images/generations", json={"prompt": "x", **ours})
    assert used.items() <= server.pipe.calls[-1].items()


def documented(control) -> str:
    """A control's row in the table of docs/api.md."""
    told = control.values.describe()
    low, high = (
        int(bound) if bound is not None and bound == int(bound) else bound
        for bound in (told.get("minimum"), told.get("maximum"))
    )
    bounds = f"{low} to {high}"
    names = ", ".join(f"`{json.dumps(choice)}`" for choice in told.get("choices", ()))
    allowed = {
        "integer": bounds,
        "number": bounds,
        "integers": f"{told.get('length')} integers, {bounds}",
        "numbers": f"{told.get('length')} numbers, {bounds}",
        "choice": names,
        "text": f"at most {told.get('maximum')} characters",
        "pairs": f'{bounds} objects `{{"prompt": …, "view": …}}`',
        "boolean": "`true`, `false`",
        "texts": f"at most {told.get('length')} texts of {told.get('maximum')} characters",
    }[told["type"]]
    kinds = ", ".join(control.kinds)
    kinds = {", ".join(KINDS): "all", ", ".join(KINDS[:-1]): "all but upscale"}.get(kinds, kinds)
    default = f"`{json.dumps(control.default)}`"
    default += "".join(f", {kind} `{value}`" for kind, value in control.kind_defaults.items())
    optional = " or `null`" if control.optional else ""
    return f"| `{control.name}` | {kinds} | {default} | {allowed}{optional} | {control.help} |"


def test_the_documentation_has_the_declared_controls():
    """The rows to put in are those of: python -m tests.serve.test_surfaces."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\w+` \| .* \| .* \| .* \| .* \|$", text, re.MULTILINE)
    assert [documented(control) for control in CONTROLS.values()] == rows


def test_the_documentation_has_every_call_of_the_interface(server):
    schema = server.client.get("/api/v1/openapi.json").json()["paths"]
    ours = {p.removeprefix("/api/v1"): calls for p, calls in schema.items() if p[:8] == "/api/v1/"}
    calls = {f"{m.upper()} {re.sub('{.*?}', '{}', p)}" for p, ms in ours.items() for m in ms}
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    told = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`? ]*)", text.replace("/api/v1/", "/"))
    told += re.findall(r"((?:GET|POST) /\S+)", "".join(re.findall(r"^### .*", text, re.MULTILINE)))
    plain = {re.sub("{.*?}", "{}", call).replace("{}.png", "{}.{}").rstrip("`") for call in told}
    assert calls - plain == set()


def test_declarations_of_the_library_and_the_server_do_not_clash():
    assert set(declared()) | set(OF_SERVER) == set(CONTROLS)


if __name__ == "__main__":
    print("\n".join(documented(control) for control in CONTROLS.values()))
