"""Every field that an OpenAI client sends is done, refused by name, or does no harm."""

import inspect
import io

import openai
import pytest
from openai.resources.images import Images
from PIL import Image

from dg2_jax.serve import openai_schemas
from dg2_jax.serve.foreign_fields import Ignored, Refused
from dg2_jax.serve.openai_fields import TABLE
from tests.serve.fakes import SIZE
from tests.serve.test_a1111_fields import DOCS, told

OF_CALL = ("self", "extra_headers", "extra_query", "extra_body", "timeout")


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), "red").save(out, "PNG")
    return out.getvalue()


def refused(call, param, kind=openai.BadRequestError, **fields):
    with pytest.raises(kind) as caught:
        call(prompt="x", **fields)
    assert caught.value.param == param
    assert param in str(caught.value) or str(fields[param]) in str(caught.value)
    return caught.value


def test_every_field_of_the_client_has_a_row():
    for call in (Images.generate, Images.edit, Images.create_variation):
        assert set(inspect.signature(call).parameters) - set(OF_CALL) <= set(TABLE)
    done = {name for name, row in TABLE.items() if isinstance(row, str)}
    fields = set(openai_schemas.ImageRequest.model_fields) - set(openai_schemas.OURS)
    assert done - {"image", "mask"} == fields


def test_the_table_in_the_docs():
    rows = [f"| `{name}` | {told(row)} |" for name, row in TABLE.items()]
    missing = [row for row in rows if row not in DOCS.read_text()]
    assert not missing, "docs/api.md lacks:\n" + "\n".join(rows)


def test_refused_fields_are_named(server, client):
    asking = {"background": "transparent", "input_fidelity": "high", "frame_count": 3}
    for name, row in TABLE.items():
        if isinstance(row, Refused):
            sent = {"extra_body": {name: asking.get(name, "x")}}
            with pytest.raises(openai.BadRequestError, match="is not done") as caught:
                client.images.generate(prompt="x", **sent)
            assert caught.value.param == name
            with pytest.raises(openai.BadRequestError, match="is not done") as caught:
                client.images.edit(image=png(), prompt="x", **sent)
            assert caught.value.param == name
    refused(client.images.edit, "markup", image=png(), markup=("m.png", png()))
    assert not server.pipe.calls


def test_what_asks_for_nothing_changes_nothing(client):
    expected = client.images.generate(prompt="x", extra_body={"seed": 1}).data
    harmless = {name: row.off[0] for name, row in TABLE.items() if getattr(row, "off", None)}
    harmless |= {name: "me" for name, row in TABLE.items() if isinstance(row, Ignored)}
    for fields in (
        harmless,
        {"quality": "hd", "style": "vivid", "moderation": "low"},
        dict.fromkeys(set(TABLE) - {"prompt"}),
    ):
        sent = {"seed": 1, **fields}
        assert client.images.generate(prompt="x", extra_body=sent).data == expected


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("quality", ["ultra", ""]),
        ("style", ["cubist"]),
        ("moderation", ["none"]),
        ("background", ["transparent", "blue"]),
        ("output_format", ["gif", "svg"]),
        ("size", ["huge", "0x0", "123x45", "1024x128", "4096x4096", "1024 x 1024"]),
        ("n", [0, 11]),
    ],
)
def test_unknown_values(server, client, field, values):
    for value in values:
        refused(client.images.generate, field, **{field: value})
    assert not server.pipe.calls


def test_sizes(client):
    for size in ("auto", "1024x1024", "1536x1024", "256x256", "1792x1024", f"{SIZE}x{SIZE}"):
        assert client.images.generate(prompt="x", size=size).size


def test_models(server, client):
    listed = [one.id for one in client.models.list()]
    assert listed == ["demo", "demo-raw", "demo-fast"]
    for name in listed:
        assert client.models.retrieve(name).id == name
        assert client.images.generate(prompt="x", model=name).model == name
    assert [call["weights"] for call in server.pipe.calls] == ["ema", "raw", "fast"]
    for name in (None, "gpt-image-1", "dall-e-3"):
        assert client.images.generate(prompt="x", model=name).model == "demo"
    error = refused(client.images.generate, "model", openai.NotFoundError, model="flux")
    assert error.code == "model_not_found"
    error = refused(client.images.edit, "model", openai.NotFoundError, model="flux", image=png())
    with pytest.raises(openai.BadRequestError, match="weights must be left out"):
        client.images.generate(prompt="x", model="demo-raw", extra_body={"weights": "ema"})


def test_every_answer_has_a_request_id(client):
    made = [client.images.generate(prompt="x") for _ in range(2)]
    assert len({reply._request_id for reply in made}) == 2
    assert all(reply._request_id.startswith("req_") for reply in made)
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="x", n=0)
    assert caught.value.request_id.startswith("req_")
