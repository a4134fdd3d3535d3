"""Captioned pictures in every form that they come in."""

import io
import json
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from dg2_jax.data import balloons
from dg2_jax.data.sources.spec import SourceSpec

CAPTIONS = {"a": ("a lake", "water under a hill"), "b": ("ein Wald, früh",), "c": ("a dune",)}


def picture_bytes(seed, size=(24, 16), kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


PICTURES = {name: picture_bytes(i) for i, name in enumerate(CAPTIONS)}


def write_folder(root):
    for name, captions in CAPTIONS.items():
        (root / f"{name}.png").write_bytes(PICTURES[name])
        (root / f"{name}.txt").write_text("\n".join(captions) + "\n\n", "utf-8")
    (root / ".hidden.png").write_bytes(b"")
    (root / "notes.md").write_text("no picture")
    return root


def write_metadata(root, key="captions"):
    lines = []
    for name, captions in CAPTIONS.items():
        (root / f"{name}.png").write_bytes(PICTURES[name])
        value = list(captions) if len(captions) > 1 else captions[0]
        lines.append(json.dumps({"file_name": f"{name}.png", key: value}))
    (root / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    return root


def write_tar(root, as_json=False):
    for number, names in enumerate(("ab", "c")):
        with tarfile.open(root / f"shard-{number}.tar", "w") as tar:
            for name in names:
                text = "\n".join(CAPTIONS[name]).encode()
                if as_json:
                    text = json.dumps({"caption": CAPTIONS[name], "id": 1}).encode()
                for suffix, content in (
                    ("png", PICTURES[name]),
                    ("json" if as_json else "txt", text),
                ):
                    info = tarfile.TarInfo(f"{name}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return root


def write_parquet(root, struct=False):
    for number, names in enumerate(("ab", "c")):
        images = [PICTURES[n] for n in names]
        table = pyarrow.table(
            {
                "image": [{"bytes": i, "path": None} for i in images] if struct else images,
                "text": [list(CAPTIONS[n]) for n in names],
            }
        )
        pyarrow.parquet.write_table(table, root / f"part-{number}.parquet", row_group_size=1)
    return root


FILES = ["a.png", "b.png", "c.png"]
KEYS = ["shard-0.tar/a", "shard-0.tar/b", "shard-1.tar/c"]
ROWS = ["part-0.parquet/0", "part-0.parquet/1", "part-1.parquet/0"]


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (write_folder, FILES),
        (write_metadata, FILES),
        (lambda root: write_metadata(root, "text"), FILES),
        (write_tar, KEYS),
        (lambda root: write_tar(root, as_json=True), KEYS),
        (write_parquet, ROWS),
        (lambda root: write_parquet(root, struct=True), ROWS),
    ],
)
def test_every_form_gives_the_same_pictures(tmp_path, write, names):
    source = SourceSpec(str(write(tmp_path))).open()
    actual = [source[i] for i in range(len(source))]
    assert [p.name for p in actual] == names == [source.name(i) for i in range(3)]
    assert [p.captions for p in actual] == list(CAPTIONS.values())
    assert [p.image for p in actual] == list(PICTURES.values())
    assert {p.split for p in actual} == {None}
    before = source.fingerprint()
    assert SourceSpec(str(tmp_path)).open().fingerprint() == before
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes() + b"\n")
    if not (tmp_path / "part-0.parquet").exists():
        assert SourceSpec(str(tmp_path)).open().fingerprint() != before


class Captioned(tfds.core.GeneratorBasedBuilder):
    """Three pictures with a label."""

    name = "captioned"
    VERSION = tfds.core.Version("1.0.0")
    url_infos = None

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "place": tfds.features.ClassLabel(names=("water", "land")),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        splits = {"train": "ab", "validation": "c", "test": "a"}
        return {split: self._generate_examples(names) for split, names in splits.items()}

    def _generate_examples(self, names):
        for i, name in enumerate(names):
            image, captions = io.BytesIO(PICTURES[name]), list(CAPTIONS[name])
            yield i, {"image": image, "captions": captions, "place": int(name != "a")}


def test_a_tfds_data_set_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="has not been built"):
        SourceSpec("tfds:captioned", str(tmp_path)).open()
    Captioned(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    source = SourceSpec("tfds:captioned", str(tmp_path)).open()
    actual = [source[i] for i in range(len(source))]
    assert [p.captions for p in actual] == list(CAPTIONS.values())
    for picture, content in zip(actual, PICTURES.values(), strict=True):
        np.testing.assert_array_equal(picture.image, np.asarray(Image.open(io.BytesIO(content))))
    assert [p.name for p in actual] == ["train/0", "train/1", "validation/0"]
    assert [p.split for p in actual] == ["train", "train", "validation"]
    assert source.attributes == {"place": ("water", "land")}
    assert [p.attributes["place"] for p in actual] == [0, 1, 1]
    with pytest.raises(ValueError, match=r"caption_key must be a feature of tfds:captioned"):
        SourceSpec("tfds:captioned", str(tmp_path), caption_key="words").open()
    with pytest.raises(FileNotFoundError, match="TFDS has no data set 'captioneD2'"):
        SourceSpec("tfds:captioneD2", str(tmp_path)).open()


def test_folders_may_name_splits(tmp_path):
    for split in ("train", "validation", "test", "more"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "x.JPG").write_bytes(picture_bytes(0, kind="JPEG"))
    source = SourceSpec(str(tmp_path)).open()
    splits = {source.name(i): source[i].split for i in range(len(source))}
    assert splits == {"more/x.JPG": None, "train/x.JPG": "train", "validation/x.JPG": "validation"}


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere"):
        SourceSpec(str(tmp_path / "nowhere")).open()
    with pytest.raises(ValueError, match="holds no pictures"):
        SourceSpec(str(tmp_path)).open()
    metadata = tmp_path / "metadata.jsonl"
    metadata.write_text('{"file_name": "../../etc/passwd", "text": "a"}')
    with pytest.raises(ValueError, match="line 1: file_name leads outside"):
        SourceSpec(str(tmp_path)).open()
    metadata.write_text('\n{"text": "a"}')
    with pytest.raises(ValueError, match="line 2 must be an object with file_name"):
        SourceSpec(str(tmp_path)).open()
    metadata.write_text('{"file_name": "gone.png", "text": "a"}')
    source = SourceSpec(str(tmp_path)).open()
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        source[0]
    metadata.unlink()
    (tmp_path / "a.png").write_bytes(PICTURES["a"])
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"a\.txt must be UTF-8"):
        SourceSpec(str(tmp_path)).open()[0]
    (tmp_path / "latents.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"latent shards.*give them to dg2 train"):
        SourceSpec(str(tmp_path)).open()


def test_damaged_archives_are_named(tmp_path):
    tar = write_tar(tmp_path) / "shard-0.tar"
    whole = tar.read_bytes()
    second = whole.index(b"b.png")  # the header of the second picture
    for content in (whole[: second + 700], whole[: second + 100], b"no archive at all" * 99):
        tar.write_bytes(content)
        with pytest.raises(ValueError, match=r"shard-0\.tar is damaged"):
            SourceSpec(str(tmp_path)).open()
    table = tmp_path / "x.parquet"
    table.write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"x\.parquet is damaged"):
        SourceSpec(str(table)).open()
    pyarrow.parquet.write_table(pyarrow.table({"picture": [b"x"], "text": ["a"]}), table)
    with pytest.raises(ValueError, match=r"image_key must be a column of .*one of picture, text"):
        SourceSpec(str(table)).open()
    assert SourceSpec(str(table), image_key="picture").open()[0].image == b"x"


def test_the_balloons_are_a_folder_of_captioned_pictures(tmp_path):
    folder = balloons.draw(tmp_path / "balloons", 2)
    source = SourceSpec(str(folder)).open()
    assert [source.name(i) for i in range(2)] == ["balloon-00.png", "balloon-01.png"]
    for i in range(2):
        picture = source[i]
        assert len(picture.captions) == 5
        assert all("balloon" in caption for caption in picture.captions)
        assert Image.open(io.BytesIO(picture.image)).size == (256, 256)
    again = SourceSpec(str(balloons.draw(tmp_path / "again", 1))).open()
    assert again[0].image == source[0].image
