"""What hostile or careless clients send: RELIABILITY 12 and 13."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dg2_jax.pictures import images
from dg2_jax.serve import infotext, pictures
from dg2_jax.serve.problems import ProblemError
from tests.serve.live import LiveServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = LiveServer(tmp_path_factory.mktemp("hostile"), max_body_mb=1)
    yield server
    server.stop()


def post(server, body):
    headers = {"Content-Type": "application/json"}
    return server.client.post("/api/v1/jobs", content=body, headers=headers)


def encoded(image: Image.Image, fmt: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def upload(server, data: bytes):
    return server.client.post("/api/v1/inputs", files={"file": data})


NUMBERS = {
    "num_images": ["0", "65", "257", "1.5", "true", '"3"', "null", "[]", "1e308"],
    "num_inference_steps": ["0", "1001", "-1", "NaN", "true", "1e400"],
    "guidance_scale": ["-100.1", "101", "NaN", "Infinity", "-Infinity", "1e308", "true", '"5"'],
    "seed": ["-1", "4294967296", "0.5", "true", "1" * 400],
    "eta": ["NaN", "1.1"],
    "guidance_interval": ["[0.5, 0.1]", "[0]", "[0, NaN]", '"ab"', "[0, 2]"],
    "solver": ['"magic"', "null", "7"],
    "upscale": ["3", "true", "2.5", '"2"'],
    "preview_every": ["0", "1e9"],
    "weights": ['"../../etc"'],
    "model": ['"../../etc"', "7"],
    "prompt": ["7", "null", json.dumps("x" * 4001), json.dumps("a\0b"), '"\\ud800"'],
    "no_such_field": ["1"],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in NUMBERS.items() for v in vs])
def test_odd_values_are_refused_at_once(server, field, value):
    calls = len(server.pipe.calls)
    answer = post(server, f'{{"kind": "txt2img", "{field}": {value}}}')
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    named = answer.json()["errors"][0]["field"]
    assert named.split(".")[0] == field
    assert len(server.pipe.calls) == calls


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", ""), (b"{", "body"), (b"[]", "body"), (b"{}", "kind"), (b'{"kind": "x"}', "kind"),
        (b'{"kind": "img2img"}', "image"), (b'{"kind": "upscale", "image": "x"}', "image"),
        (b'{"kind": "inpaint", "image": "x"}', "mask"), (b'{"kind": "anagram"}', "anagram"),
        (b'{"kind": "anagram", "anagram": [{"prompt": "a", "view": "x"}]}', "anagram"),
        (b'{"kind": "txt2img", "image": "eA=="}', "image"),
        (b'{"kind": "txt2img", "\\ud800": 1}', "body"),
    ],
)  # fmt: skip
def test_wrong_bodies_name_what_is_wrong(server, body, field):
    answer = post(server, body)
    assert answer.status_code in (400, 422), answer.text
    if field and answer.status_code == 422:
        assert answer.json()["errors"][0]["field"].split(".")[0] == field


@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_deep_json(server, depth):
    assert post(server, b"[" * depth + b"]" * depth).status_code in (400, 422)


def test_large_bodies(server):
    assert post(server, b" " * (2 << 20)).status_code == 413

    def unannounced():
        for _ in range(40):
            yield b" " * 65536

    assert post(server, unannounced()).status_code == 413


@pytest.mark.parametrize(
    "prompt",
    [
        "<script>alert(1)</script>", "مرحبا‏ بالعالم ‮", "🌋" * 500, "a\nb\r\nc\x1b[31m",
        "%s {0} {{}}",
        "'; DROP TABLE jobs; --", "x" * 4000, "\u2028\ufeff\uffff",
    ],
)  # fmt: skip
def test_odd_prompts_are_only_text(server, prompt):
    job = server.finished(server.submit(prompt=prompt)["id"])
    assert job["images"][0]["prompt"] == prompt
    data = server.client.get(job["images"][0]["url"]).content
    info = server.client.post("/api/v1/png-info", files={"file": data}).json()
    assert info["request"]["prompt"] == prompt
    found = server.client.get("/api/v1/jobs", params={"q": prompt[:200]}).status_code
    assert found == 200


def test_a_prompt_is_one_log_line(capsys):
    import structlog

    from dg2_jax.serve.observe import configure_logging
    from tests.serve.live import quiet

    configure_logging()
    structlog.get_logger().info("request", path="a\nb\u2028\x1b[31m")
    quiet()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["path"] == "a\nb\u2028\x1b[31m"


def bomb(side: int) -> bytes:
    """A valid PNG header that promises side² pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


SMALL = Image.new("RGB", (8, 8), "red")
BAD_FILES = {
    "empty": b"",
    "text": b"hello",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "tiff": encoded(SMALL, "TIFF"),
    "gif": encoded(SMALL, "GIF"),
    "bmp": encoded(SMALL, "BMP"),
    "truncated png": encoded(Image.effect_noise((64, 64), 90))[:500],
    "truncated jpeg": encoded(Image.effect_noise((64, 64), 90), "JPEG")[:300],
    "truncated webp": encoded(Image.effect_noise((64, 64), 90), "WEBP")[:200],
    "bomb": bomb(60_000),
    "wide bomb": bomb(16_385),
    "promise": bomb(4_000),
    "half a header": b"\x89PNG\r\n\x1a\n\0\0",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(server, name):
    answer = upload(server, BAD_FILES[name])
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "file"
    fields = {"kind": "img2img", "image": base64.b64encode(BAD_FILES[name]).decode()}
    answer = server.client.post("/api/v1/jobs", json=fields)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "image"


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:1/x.png", "https://example.com/x.png", "file:///etc/passwd",
        "/etc/passwd", "data:image/png,abc", "data:image/png;base64,%%%", "a", "====", "é",
        "none_000", "in_" + "0" * 32, "../../etc_passwd",
    ],
)  # fmt: skip
def test_pictures_that_are_no_pictures(server, text):
    answer = server.client.post("/api/v1/jobs", json={"kind": "img2img", "image": text})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "image"


def test_odd_but_good_pictures_have_one_meaning():
    def meaning(data: bytes) -> np.ndarray:
        return np.asarray(pictures.to_rgb(pictures.decode(data, "image", 1 << 24)))

    def one(colour, mode="RGB", fmt="PNG", size=(1, 1), **options) -> tuple:
        return tuple(meaning(encoded(Image.new(mode, size, colour), fmt, **options))[0, 0])

    assert one("red") == (255, 0, 0)
    assert one((255, 0, 0, 0), "RGBA") == (255, 255, 255)  # white shines through
    assert one((255, 0, 0, 128), "RGBA") == (255, 127, 127)
    assert one((100, 0), "LA") == (255, 255, 255)
    assert one(77, "L") == (77, 77, 77)
    assert one(1, "1") == (255, 255, 255)
    assert one(0x8000, "I;16") == (128, 128, 128)
    assert np.allclose(one((0, 255, 255, 0), "CMYK", "JPEG", quality=100), (255, 0, 0), atol=4)
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 10, 20, 30])
    np.testing.assert_array_equal(meaning(encoded(palette, transparency=1))[0, 0], (0, 0, 255))
    wide = Image.new("RGB", (4, 2), "blue")
    exif = wide.getexif()
    exif[0x0112] = 6  # turned by a quarter
    assert meaning(encoded(wide, "JPEG", exif=exif)).shape == (4, 2, 3)
    frames = [Image.new("RGB", (3, 3), c) for c in ("lime", "blue")]
    for fmt in ("WEBP", "PNG"):
        options = {"save_all": True, "append_images": frames[1:]}
        options |= {"lossless": True} if fmt == "WEBP" else {}
        np.testing.assert_array_equal(
            meaning(encoded(frames[0], fmt, **options))[0, 0], (0, 255, 0)
        )


def test_metadata_from_strangers(server):
    from PIL.PngImagePlugin import PngInfo

    def told(**texts):
        info = PngInfo()
        for name, text in texts.items():
            info.add_itxt(name, text)
        data = encoded(SMALL, pnginfo=info)
        answer = server.client.post("/api/v1/png-info", files={"file": data})
        assert answer.status_code == 200, answer.text
        return answer.json()

    for text in (
        "{",
        "[]",
        "null",
        '{"seed": NaN, "prompt": 7, "solver": []}',
        "[" * 50_000,
        '{"kind": "img2img", "image": "../../x", "mask": 7}',
        '{"kind": "anagram", "anagram": [[1, 2, 3]]}',
        '{"kind": ["x"]}',
        '{"model": {"a": 1}}',
        '{"kind": "anagram", "anagram": [["a", "identity"]]}',
    ):
        told(dg2_jax=text)
    assert told(dg2_jax='{"seed": -5, "prompt": "kept"}')["request"]["prompt"] == "kept"
    theirs = told(
        parameters="a cat, by night\nNegative prompt: dogs\nand birds\nSteps: 30, "
        'Sampler: "DPM++ 2M, Karras", CFG scale: 6.5, Seed: 42, Size: 512x512, Model: x'
    )
    assert theirs["request"]["prompt"] == "a cat, by night"
    assert theirs["request"]["negative_prompt"] == "dogs\nand birds"
    assert theirs["request"]["guidance_scale"] == 6.5
    assert theirs["request"]["seed"] == 42
    assert theirs["request"]["width"] is None  # 512 pixels are another program's
    told(parameters="a" * 400_000)  # quadratic time would be past the client's limit
    told(parameters="Steps: " + " " * 300_000)


def test_infotext_survives_odd_values():
    metadata = {
        "prompt": "two\nlines", "negative_prompt": "x", "num_inference_steps": 5, "seed": 1,
        "solver": "ddim", "guidance_scale": 2.0, "width": 8, "height": 9, "model": 'a, "b": c\n',
    }  # fmt: skip
    found = infotext.parse(images.parameters_text(metadata))
    assert found["Prompt"] == "two\nlines"
    assert found["Model"] == 'a, "b": c\n'
    assert found["Size"] == "8x9"


def test_decoding_is_bounded():
    with pytest.raises(ProblemError, match="at most 64 pixels"):
        pictures.decode(encoded(Image.new("RGB", (9, 8))), "image", 64)
