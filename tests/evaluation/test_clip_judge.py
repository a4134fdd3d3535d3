"""CLIP as a judge: recorded embeddings, the score by hand, batches that do not matter."""

from pathlib import Path

import numpy as np
import pytest

from dg2_jax.evaluation import clip
from dg2_jax.nn.clip import preprocess

FOLDER = Path(__file__).parents[1] / "golden" / "hf_clip_tiny"


class Judge(clip.ClipJudge):
    """The tiny golden model, which has no tokenizer: only its eyes."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(clip, "load_text_encoder", lambda source: None)
        super().__init__(str(FOLDER))


def test_embeddings_are_the_recorded_ones(monkeypatch):
    judge = Judge(monkeypatch)
    recorded = np.load(FOLDER / "reference.npz")
    monkeypatch.setattr(
        clip, "preprocess", lambda images, size: recorded["pixel_values"].transpose(0, 2, 3, 1)
    )
    actual = judge.images(np.zeros((len(recorded["pixel_values"]), 32, 32, 3), np.uint8))
    expected = recorded["image_embeds"]
    expected = expected / np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_picture_does_not_depend_on_its_batch(monkeypatch):
    judge = Judge(monkeypatch)
    images = np.random.default_rng(0).integers(0, 256, (19, 32, 32, 3), dtype=np.uint8)
    assert preprocess(images, 32).shape == (19, 32, 32, 3)
    np.testing.assert_allclose(judge.images(images)[17:], judge.images(images[17:]), atol=1e-5)


def test_score_by_hand():
    images = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    texts = np.array([[1.0, 0.0], [0.0, -1.0], [0.8, 0.6]])
    assert clip.clip_score(images, texts) == pytest.approx(100 * (1 + 0 + 0.96) / 3)
    with pytest.raises(ValueError, match="must be alike"):
        clip.clip_score(images, texts[:2])
