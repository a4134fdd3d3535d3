"""What is wrong with a request is said in plain words, before anything is stored."""

import io
import struct
import zlib

import pytest
from PIL import Image

JOBS, INPUTS = "/api/v1/jobs", "/api/v1/inputs"


def refused(answer, status, *words):
    """The detail of a refusal with these words in it."""
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    for word in words:
        assert word in detail
    return detail


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a AND b AND c AND d AND e", "at most 4 texts"),
        ("(a:3)", "weights from 0 to 2, not '3'"),
        ("a AND b :5", "weights from -2 to 2"),
        ("(word:1,3)", "numbers as weights"),
        ("(a lake:abc)", "numbers as weights"),
        ("{(word:9)|(word:9)}", "weights from 0 to 2"),
        ("<lora:x:1> a", "there are none"),
        ("<hypernet:x:1> a", "<hypernet:…>"),
    ],
)
def test_syntax_is_checked_before_a_job_is_stored(server, prompt, words):
    refused(
        server.client.post(JOBS, json={"kind": "txt2img", "prompt": prompt}), 422, "prompt", words
    )
    assert server.client.get(JOBS).json()["jobs"] == []


def test_syntax_of_every_text_is_checked(server):
    for fields, name in (
        ({"kind": "txt2img", "negative_prompt": "(a:9)"}, "negative_prompt"),
        ({"kind": "txt2img", "negative_prompt": "a AND b"}, "negative_prompt"),
        ({"kind": "anagram", "anagram": [{"prompt": "(a:9)", "view": "identity"},
                                         {"prompt": "b", "view": "rot180"}]}, "anagram"),
        ({"kind": "anagram", "anagram": [{"prompt": "a AND b", "view": "identity"},
                                         {"prompt": "b", "view": "rot180"}]}, "anagram"),
    ):  # fmt: skip
        answer = server.client.post(JOBS, json=fields)
        refused(answer, 422, name)
        assert answer.json()["errors"][0]["field"] == name


@pytest.mark.parametrize(
    "prompt", ["（a：1.3）", "(a lake: at dawn)", r"(ratio 16\:9)", "a {b|c} d"]
)
def test_what_has_a_meaning_is_taken(server, prompt):
    job = server.submit(prompt=prompt)
    assert server.finished(job["id"])["status"] == "done"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "kind: is required, one of txt2img, img2img, inpaint, anagram, upscale"),
        (
            {"kind": "x"},
            "kind: must be one of txt2img, img2img, inpaint, anagram, upscale, got 'x'",
        ),
        ([], "body: must be an object"),
        ({"kind": "txt2img", "foo": 1}, "foo: is not a field here"),
        ({"kind": "img2img"}, "image: is required"),
        ({"kind": "img2img", "image": 5}, "image: must be a text"),
        (
            {"kind": "txt2img", "embed_metadata": "x"},
            "embed_metadata: must be true or false, got 'x'",
        ),
        ({"kind": "anagram", "anagram": 5}, "anagram: must be a list"),
    ],
)
def test_wrong_fields_are_told_in_plain_words(server, body, detail):
    assert refused(server.client.post(JOBS, json=body), 422) == detail


@pytest.mark.parametrize("sent", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_named(server, sent):
    headers = {"Content-Type": sent} if sent else {}
    answer = server.client.post(JOBS, content=b'{"kind": "txt2img"}', headers=headers)
    refused(answer, 415, "Content-Type must be application/json", sent or "")


def test_what_is_no_json_is_told(server):
    headers = {"Content-Type": "application/json"}
    refused(server.client.post(JOBS, content=b'{"a"', headers=headers), 422, "body: must be JSON")
    refused(server.client.post(JOBS, content=b"", headers=headers), 422, "body: is required")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/jobs", "/api/v1/health", "/api/v1/options", "/static/js/app.js"]
)
def test_head_answers_as_get_without_a_body(server, path):
    head, get = server.client.head(path), server.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_a_stream_ends(start):
    server = start(step_seconds=0.05)
    job = server.submit(num_inference_steps=50)
    answer = server.client.head(f"/api/v1/jobs/{job['id']}/events", timeout=5)
    assert answer.headers["content-type"].startswith("text/event-stream")


def png(width, height):
    """A PNG file that says it has so many pixels, and holds few."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")]
    )


def test_pictures_of_too_many_pixels_are_called_that(server):
    for size in ((50_000, 50_000), (5000, 5000)):
        answer = server.client.post(INPUTS, files={"file": ("a.png", png(*size))})
        refused(answer, 422, "file", "pixels")


def test_one_file_is_taken(server):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    one = ("file", ("a.png", out.getvalue()))
    assert server.client.post(INPUTS, files=[one]).status_code == 201
    refused(server.client.post(INPUTS, files=[one, one]), 422, "file", "one")
    refused(server.client.post("/api/v1/png-info", files=[one, one]), 422, "file", "one")
    refused(server.client.post(INPUTS, data={"file": "abc"}), 422, "file: must be a file")
