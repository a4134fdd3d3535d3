"""A call's result: a sequence of pictures that shows itself and saves itself."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from dg2_jax import Pipeline, Result, Settings
from dg2_jax.checks import ParameterError
from dg2_jax.pictures import images
from tests import tiny_model

NAMES = ["x-0.png", "x-1.png", "x-2.png"]


def make(count=3, height=40, width=60, **values):
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    given = {
        "seeds": tuple(range(7, 7 + count)),
        "prompts": ("a <lake> & \"hills\"",) * count,
        "negative_prompts": ("",) * count,
        "latents": np.zeros((count, 5, 8, 4), np.float32),
        "settings": Settings(height=height, width=width),
        "model": "demo",
        **values,
    }  # fmt: skip
    return Result(images=pixels, **given)


def test_it_is_a_sequence_of_pil_images():
    result = make()
    assert len(result) == 3
    assert [np.asarray(picture).tolist() for picture in result] == result.images.tolist()
    assert [picture.size for picture in result.pil] == [(60, 40)] * 3
    np.testing.assert_array_equal(result[-1], result.images[2])
    with pytest.raises(IndexError):
        result[3]
    assert not make(0).pil


def test_its_repr_is_short_whatever_it_holds():
    assert repr(make()) == (
        "<Result: 3 images of 60x40, seeds 7, 8, 9, dpmpp_2m, 20 steps, model demo>"
    )
    assert repr(make(1)).startswith("<Result: 1 image of 60x40, seed 7, ")
    assert "0 images of 60x40, dpmpp_2m" in repr(make(0, stopped=True))
    assert repr(make(0, stopped=True)).endswith(", stopped>")
    assert len(repr(make(200))) < 120


def test_notebooks_show_it():
    png = Image.open(io.BytesIO(make(1)._repr_png_()))
    np.testing.assert_array_equal(png, make(1).images[0])
    sheet = Image.open(io.BytesIO(make(5)._repr_png_()))
    assert sheet.width > 3 * 60
    assert sheet.height > 2 * 40
    assert make(0)._repr_png_() is None
    shown = make(20)._repr_html_()
    assert shown.count("<img ") == 16
    assert "a &lt;lake&gt; &amp; &quot;hills&quot;" in shown
    assert "seed 22" in shown
    assert "seed 23" not in shown
    assert "<img" not in make(0)._repr_html_()
    large = make(1, 2000, 1000)._repr_png_()
    assert Image.open(io.BytesIO(large)).size == (256, 512)


def test_a_png_is_that_file(tmp_path):
    result = make(1)
    path = tmp_path / "new" / "x.png"
    for _ in range(2):  # a second time it is replaced
        assert result.save(path) == [path]
    np.testing.assert_array_equal(Image.open(path), result.images[0])
    assert images.read_metadata(path)["seed"] == 7
    assert result.save(str(tmp_path / "Y.PNG")) == [tmp_path / "Y.PNG"]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["Y.PNG", "x.png"]


def test_several_are_numbered(tmp_path):
    paths = make().save(tmp_path / "x.png")
    assert [path.name for path in paths] == NAMES
    assert [images.read_metadata(path)["seed"] for path in paths] == [7, 8, 9]
    assert [p.name for p in make(11).save(tmp_path / "y.png")][::5] == [
        "y-00.png", "y-05.png", "y-10.png",
    ]  # fmt: skip
    assert make(0).save(tmp_path / "z.png") == []


def test_other_paths_are_folders_and_other_formats_are_refused(tmp_path):
    for name in ("outputs", "run.v2", "x.png"):
        (tmp_path / "x.png").mkdir(exist_ok=True)
        paths = make(2).save(tmp_path / name)
        assert [path.parent for path in paths] == [tmp_path / name] * 2
    for name in ("x.jpg", "x.webp", "x.TIFF"):
        with pytest.raises(ParameterError, match=r"path must end in \.png or be a folder"):
            make().save(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    make(1).save(path)
    before = path.read_bytes()

    def fails(self, file, *args, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", fails)
    for target in (path, tmp_path / "folder"):
        with pytest.raises(OSError, match="no space"):
            make(1).save(target)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.rglob("*")] in (["folder", "x.png"], ["x.png", "folder"])


def test_what_was_edited_is_told_by_its_digest():
    result = make(1, image_digest="ab" * 32)
    assert result.metadata(0)["image_digest"] == "ab" * 32
    assert "image" not in result.metadata(0)


def test_files_name_the_weights_and_the_start_of_their_hash(tmp_path):
    tiny_model.save(tmp_path / "model")
    files = json.loads((tmp_path / "model" / "config.json").read_text())["files"]
    pipe = Pipeline.load(tmp_path / "model")
    for weights in pipe.model.params:
        result = pipe("a lake", num_inference_steps=1, weights=weights)
        (path,) = result.save(tmp_path / f"{weights}.png")
        text = Image.open(path).text["parameters"]
        assert f"Model hash: {files[f'denoiser.{weights}.safetensors'][:10]}, " in text
        assert f"Weights: {weights}" in text
    assert "model_hash" not in make().metadata(0)
