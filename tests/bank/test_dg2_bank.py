"""DiffusionGen2's prompt banks open as a bank of ours."""

import numpy as np
import pytest

from dg2_jax.bank import Bank
from dg2_jax.interop.dg2_prompts import read_bank, read_evaluation_prompts
from dg2_jax.interop.torch_checkpoint import CheckpointError
from tests.interop.torch_files import write_torch

TEXTS = {"jungle": ["a tiger", "thick vines"], "night sky": ["a comet", "the moon "]}


def vectors(seed, count=2, width=512):
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Clip:
    """Stands in for CLIP: its vector of a text is the one of the file."""

    name = "clip"

    def __init__(self, known):
        self._known = known

    def encode(self, prompts):
        class Encoding:
            pooled = np.stack([self._known[prompt] for prompt in prompts])

        return Encoding()


@pytest.fixture
def folder(tmp_path):
    for name, shift in (("train_prompt_bank", 0), ("val_prompt_bank", 10)):
        content = {
            category: [[f"{text}{shift or ''}" for text in texts], vectors(i + shift)]
            for i, (category, texts) in enumerate(TEXTS.items())
        }
        write_torch(tmp_path / f"{name}.pt", content)
    return tmp_path


def test_a_folder_of_both_splits(folder):
    known = {"comet": vectors(1)[0]}
    bank = Bank.load(folder, encoder=Clip(known))
    assert len(bank) == 8
    assert bank.categories() == ["jungle", "night sky"]
    assert bank.categories("validation") == ["jungle", "night sky"]
    assert [e.prompt for e in bank.entries("jungle")] == ["a tiger", "thick vines"]
    assert [e.prompt for e in bank.entries("night sky", "train")] == ["a comet", "the moon"]
    match = bank.match("comet", k=2, temperature=0, min_similarity=0.0)
    assert match.prompt == "a comet"
    assert match.candidates[0].score == pytest.approx(1.0, abs=1e-3)
    assert bank.random_prompt("night sky", split="validation", seed=1).endswith("10")


def test_one_file_is_one_split(folder):
    bank = Bank.load(folder / "val_prompt_bank.pt", encoder=Clip({}))
    assert (len(bank), bank.categories("train")) == (4, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must map categories"),
        ({"a": ["x"]}, "category 'a' must be"),
        ({"a": [["x"], vectors(0)]}, "must have 1 finite vectors"),
        ({"a": [["x", "y"], vectors(0) * np.nan]}, "must have 2 finite vectors"),
        ({"a": [["x", "y"], vectors(0)], "b": [["z"], vectors(0, 1, 8)]}, "of one width"),
    ],
)
def test_what_is_no_bank_is_named(tmp_path, content, message):
    path = write_torch(tmp_path / "bank.pt", content)
    with pytest.raises(CheckpointError, match=message):
        read_bank(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "must hold prompts, text_embd and null_embd"),
        ({"null_embd": None}, "must hold prompts"),
        ({"prompts": ["x"]}, "of 1 prompts"),
        ({"null_embd": np.zeros((1, 3, 8), np.float32)}, "null_embd"),
        ({"text_embd": np.full((2, 4, 8), np.nan, np.float32)}, "must be finite"),
    ],
)
def test_what_are_no_evaluation_prompts_is_named(tmp_path, change, message):
    content = {
        "prompts": ["x", "y"],
        "text_embd": np.ones((2, 4, 8), np.float16),
        "null_embd": np.zeros((1, 4, 8), np.float16),
    }
    path = write_torch(tmp_path / "eval.pt", content)
    read = read_evaluation_prompts(path)
    assert (read.prompts, read.context.shape, read.null.shape) == (("x", "y"), (2, 4, 8), (4, 8))
    with pytest.raises(CheckpointError, match=message):
        read_evaluation_prompts(write_torch(path, content | change))


def test_its_categories_exist_by_name(shipped):
    assert {"jungle", "night sky"} <= set(shipped.categories())
    texts = {entry.prompt for entry in shipped.entries("night sky")}
    assert shipped.random_prompt("night_sky", seed=1) in texts
