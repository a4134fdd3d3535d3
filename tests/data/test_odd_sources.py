"""Captions and files as people have them: nothing said of a picture is lost, the rest is named."""

import io
import json
import tarfile
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from dg2_jax.data import latents, screening
from dg2_jax.data.sources.spec import SourceSpec
from dg2_jax.pictures import image_input
from tests.data.pictures import prepare, write_picture
from tests.interop import published


def picture(seed, kind="PNG", **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            content = content.encode() if isinstance(content, str) else content
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def said(location, **options):
    """Name to captions, or to what is wrong, of every picture of a source."""
    source = SourceSpec(str(location), **options).open()
    result = {}
    for i in range(len(source)):
        problem = screening.screen(source, i, 8).problem
        result[source.name(i)] = problem or source[i].captions
    return result


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        (b'\xef\xbb\xbf{"file_name": "a.png", "text": "a lake"}', ("a lake",)),
        ('{"file_name": "a.png", "text": "a lake"}'.encode("utf-16"), ("a lake",)),
        ('{"file_name": "a.png", "text": "a lake\u2028at dawn\x85"}', ("a lake\u2028at dawn",)),
        ('{"file_name": "a.png", "text": "one"}\r\n{"file_name": "a.png", "text": "two"}',
         ("one", "two")),
        ('{"file_name": "./a.png", "text": "one"}\n{"file_name": "a.png", "text": "one"}',
         ("one",)),
        ('{"file_name": "a.png", "text": "one", "text": "two"}', ("one", "two")),
        ('{"file_name": "a.png", "captions": [], "text": "one"}', ("one",)),
        ('{"file_name": "a.png", "text": "\\ud83d\\ude00"}', ("\U0001f600",)),
    ],
)  # fmt: skip
def test_lines_of_metadata(tmp_path, content, captions):
    write(tmp_path, {"a.png": picture(0), "metadata.jsonl": content})
    assert said(tmp_path) == {"a.png": captions}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"en": "a lake", "de": "ein See"}, "got an object with the keys 'en', 'de'"),
        ([["x", "y"]], r"got list \['x', 'y'\]"),
        ([{"raw": "a lake"}], "got dict"),
        (5, "got int 5"),
        ("a lake \ud83d", r"'a lake \\ud83d' is no valid text: U\+D83D is half of a surrogate"),
        (["fine", "\udc80"], "U[+]DC80"),
        ([], "it has no caption"),
        (" \n", "it has no caption"),
    ],
)
def test_what_is_no_caption_is_named(tmp_path, value, problem):
    lines = [
        json.dumps({"file_name": f"{n}.png", "text": t}) for n, t in (("a", value), ("b", "x"))
    ]
    write(tmp_path, {"a.png": picture(0), "b.png": picture(1), "metadata.jsonl": "\n".join(lines)})
    actual = said(tmp_path)
    assert actual["b.png"] == ("x",)
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(actual["a.png"])


def test_an_object_by_language_is_taken_by_its_key(tmp_path):
    value = {"en": "a lake", "de": "ein See"}
    lines = json.dumps({"file_name": "a.png", "text": value, "text.fr": "un lac"})
    write(tmp_path, {"a.png": picture(0), "metadata.jsonl": lines})
    assert said(tmp_path, caption_key="text.de") == {"a.png": ("ein See",)}
    assert said(tmp_path, caption_key="text.fr") == {"a.png": ("un lac",)}
    assert said(tmp_path, caption_key="text.it") == {"a.png": "it has no caption"}
    table = pyarrow.table({"image": [picture(0)], "text": [value]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert said(tmp_path, caption_key="text.de") == {"a.parquet/0": ("ein See",)}
    with pytest.raises(ValueError, match="got an object"):
        SourceSpec(str(tmp_path)).open()[0]


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ("file_name,text\na.png,one\n", ("one",)),
        ('\ufefftext,file_name\r\n"one, ""two""\nthree",a.png\r\n', ('one, "two"\nthree',)),
        ("file_name,text\na.png,one\na.png,two\n", ("one", "two")),
    ],
)
def test_metadata_csv(tmp_path, content, captions):
    write(tmp_path, {"a.png": picture(0), "metadata.csv": content})
    assert said(tmp_path) == {"a.png": captions}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.csv", "name,text\na.png,one", "must name the column file_name"),
        ("metadata.csv", "file_name,text\na.png,one, two", "line 2 has more fields"),
        ("metadata.csv", 'file_name,text\na.png,"one', "metadata.csv: line"),
        ("metadata.jsonl", b'\n{"file_name": "a.png", "text": "caf\xe9"}',
         "metadata.jsonl must be UTF-8, and its line 2 is not"),
        ("metadata.csv", b"file_name,text\na.png,caf\xe9", "metadata.csv must be UTF-8"),
        ("metadata.jsonl", '{"file_name": "/etc/passwd"}', "line 1: file_name leads outside"),
        ("metadata.jsonl", '{"file_name": "b/../../a.png"}', "line 1: file_name leads outside"),
        ("metadata.jsonl", '{"file_name": "a.png"', "line 1 must be JSON"),
        ("metadata.jsonl", "[" * 9999, "nested too deeply"),
        ("metadata.jsonl", '["a.png"]', "line 1 must be an object with file_name"),
    ],
)  # fmt: skip
def test_damaged_metadata_is_named(tmp_path, name, content, message):
    write(tmp_path, {"a.png": picture(0), name: content})
    with pytest.raises(ValueError, match=message):
        SourceSpec(str(tmp_path)).open()


def test_text_beside_a_picture(tmp_path):
    write(
        tmp_path,
        {
            "a.png": picture(0),
            "a.TXT": "\ufeffa lake\u2028at dawn\r\n\r\na lake",
            "IMG.v1.png": picture(1),
            "IMG.v1.txt": "one",
            "IMG.v2.png": picture(2),
            "latin.png": picture(3),
            "latin.txt": b"ok\ncaf\xe9",
        },
    )
    actual = said(tmp_path)
    assert actual["a.png"] == ("a lake\u2028at dawn", "a lake")
    assert actual["IMG.v1.png"] == ("one",)
    assert actual["IMG.v2.png"] == "it has no caption"
    assert "latin.txt must be UTF-8, and its line 2 is not" in actual["latin.png"]


def test_names_with_dots_and_repeated_keys_in_a_tar(tmp_path):
    write_tar(
        tmp_path / "a.tar",
        [
            ("ok.png", picture(0)),
            ("ok.txt", b"\xef\xbb\xbfone"),
            ("IMG.v1.png", picture(1)),
            ("IMG.v1.txt", "two"),
            ("IMG.v2.JPG", picture(2, "JPEG")),
            ("IMG.v2.json", b'\xef\xbb\xbf{"text": "three"}'),
            ("twice.txt", "four"),
            ("twice.webp", picture(3, "WEBP")),
            ("twice.txt", "five"),
            ("twice.webp", picture(4, "WEBP")),
            ("more.png", picture(5)),
            ("more.txt", "six"),
            ("more.txt", "seven"),
            ("pair.png", picture(6)),
            ("pair.jpg", picture(7, "JPEG")),
            ("pair.txt", "eight"),
            ("x.left.png", picture(8)),
            ("x.right.png", picture(9)),
            ("x.txt", "nine"),
            ("y.png", picture(10)),
            ("y.caption.txt", "ten"),
            ("mask.png", picture(11)),
            ("mask.txt", "eleven"),
            ("mask.seg.png", picture(12)),
            ("notes.md", "no picture"),
        ],
    )
    assert said(tmp_path) == {
        "a.tar/ok": ("one",),
        "a.tar/IMG.v1": ("two",),
        "a.tar/IMG.v2": ("three",),
        "a.tar/twice": ("four",),
        "a.tar/twice (2)": ("five",),
        "a.tar/more": ("six", "seven"),
        "a.tar/pair": ("eight",),
        "a.tar/pair (2)": ("eight",),
        "a.tar/x.left": ("nine",),
        "a.tar/x.right": ("nine",),
        "a.tar/y": ("ten",),
        "a.tar/mask": ("eleven",),
        "a.tar/mask.seg": "it has no caption",
    }
    assert SourceSpec(str(tmp_path)).open().ignored == {".md": 1}


def test_archives_that_are_not_read_are_named(tmp_path):
    write(tmp_path, {"a.tar.gz": b"\x1f\x8b", "a.txt": "a lake"})
    for location in (tmp_path, tmp_path / "a.tar.gz"):
        with pytest.raises(ValueError, match=r"a\.tar\.gz is a compressed tar file.*unpack it"):
            SourceSpec(str(location)).open()
    write(tmp_path, {"a.png": picture(0)})
    assert SourceSpec(str(tmp_path)).open().ignored == {".gz": 1}
    for name, content, kind in (
        ("b.tar", b"\x1f\x8b\x08" + b"\1" * 600, "compressed with gzip"),
        ("b.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        ("b.parquet", b"<!DOCTYPE html><html>", "a web page"),
    ):
        write(tmp_path / "more", {name: content})
        with pytest.raises(ValueError, match=f"{name} is no .*: it is .*{kind}"):
            SourceSpec(str(tmp_path / "more" / name)).open()


def test_formats_of_data_sets_are_read_or_named(tmp_path):
    files = {"a.gif": "GIF", "b.tiff": "TIFF", "c.bmp": "BMP", "d.png": "PNG"}
    write(tmp_path, {name: picture(i, kind) for i, (name, kind) in enumerate(files.items())})
    frames = [Image.new("RGB", (20, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "e.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "f.tif", save_all=True, append_images=frames[1:])
    Image.new("F", (20, 16), float("nan")).save(tmp_path / "g.tif")
    write(tmp_path, {"h.avif": b"\0\0\0 ftypavif"})
    write(tmp_path, {"j.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:00"})
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text("a lake")
    actual = said(tmp_path)
    assert [n for n, v in actual.items() if v == ("a lake",)] == [*files, "e.gif", "f.tif"]
    for name in ("e.gif", "f.tif"):
        pixels = image_input.load_image(
            (tmp_path / name).read_bytes(), 4, 4, formats=image_input.DATA_FORMATS
        )
        assert (pixels == (255, 0, 0)).all()
    assert "must be finite" in actual["g.tif"]
    assert "must be a PNG, JPEG, WebP, GIF, TIFF or BMP picture" in actual["h.avif"]
    assert "it is a Git LFS pointer" in actual["j.png"]


def test_a_png_with_large_or_bad_ancillary_chunks_is_read(tmp_path):
    def chunk(kind, data):
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    png = picture(
        0, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    )
    expected = image_input.load_image(png, 16, 20)
    assert expected.shape == (20, 16, 3)  # turned by its EXIF block
    big = zlib.compress(bytes(3 << 20))
    header_end, end = 8 + 25, len(png) - 12
    for where, kind, data in (
        (header_end, b"iCCP", b"profile\0\0" + big),
        (header_end, b"zTXt", b"key\0\0" + big),
        (header_end, b"zTXt", b"key\0\x07" + big),
        (end, b"iTXt", b"key\0\1\0\0\0" + big),
        (end, b"tEXt", b"key\0" + b"x" * (3 << 20)),
    ):
        odd = png[:where] + chunk(kind, data) + png[where:]
        np.testing.assert_array_equal(image_input.load_image(odd, 16, 20), expected)
    broken = png[:header_end] + chunk(b"tEXt", b"key\0value")[:-1] + b"?" + png[header_end:]
    np.testing.assert_array_equal(image_input.load_image(broken, 16, 20), expected)
    with pytest.raises(ValueError, match="image is damaged"):
        image_input.load_image(odd[: len(png) // 2], 16, 20)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return published.clip_folder(tmp_path_factory.mktemp("published") / "clip")


def test_captions_of_duplicates_are_kept_and_odd_names_reported(tmp_path, clip):
    root = tmp_path / "pictures"
    write_picture(root / "a.png", 0, captions=("a lake", "water"))
    write_picture(root / "copies" / "b.png", 0, captions=("a lake", "a volcano at dawn"))
    write_picture(root / "c.png", 1, captions=("a dune",))
    write_picture(root / "bad \udce9\udc80.png", 2, captions=())
    (root / "notes.md").write_text("no picture")
    prepare(root, tmp_path / "out", clip, validation_share=1e-9)
    records = [
        source[i]
        for split in ("train", "validation")
        for source in latents.open_split(tmp_path / "out", split)
        for i in range(len(source))
    ]
    assert sorted(len(record["offsets"]) - 1 for record in records) == [1, 3]
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert {line["name"]: line["problem"] for line in report["problems"]} == {
        "copies/b.png": "duplicate of a.png",
        "bad \udce9\udc80.png": "it has no caption",
    }
    assert (report["kept"], report["ignored_files"]) == (2, {".md": 1})


def test_with_nothing_usable_the_report_says_why(tmp_path, clip):
    root = tmp_path / "pictures"
    write_picture(root / "a.png", 0, 4, 4)
    write_picture(root / "b.png", 1, captions=())
    write_picture(root / "c.png", 2, captions=())
    message = r"0 of its pictures can be used.*2 of them: it has no caption.*see .*report\.json"
    with pytest.raises(ValueError, match=message):
        prepare(root, tmp_path / "out", clip)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [line["name"] for line in report["problems"]] == ["a.png", "b.png", "c.png"]
    write(tmp_path / "documents", {"a.pdf": "%PDF", "b.pdf": "%PDF", "c.txt": "a lake"})
    with pytest.raises(ValueError, match=r"holds no pictures; it holds 2 \.pdf, 1 \.txt"):
        prepare(tmp_path / "documents", tmp_path / "none", clip)
