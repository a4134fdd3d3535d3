"""CLIP's tokenizer has the ids of `transformers`, from a folder and as published."""

import json
import shutil

import pytest
from sd_files import GOLDEN, PROMPTS

from dg2_jax.interop import clip_tokenizer, hf_text

transformers = pytest.importorskip("transformers")

TEXTS = [
    *PROMPTS,
    "  many   spaces\n\tand tabs",
    "it's we've I'll 1234 3d-printed !!! ?! a cat!",
    "日本語 emoji 🎨🌋 naïve café İstanbul ﬁ ½",
    "<|endoftext|> inside <|startoftext|>",
    "word" * 60,
]


@pytest.mark.parametrize("pad", [clip_tokenizer.END, "!"])
def test_published_vocabulary(pad, tmp_path):
    tokenizer = clip_tokenizer.published_tokenizer(pad)
    model = json.loads(tokenizer.to_str())["model"]
    assert len(model["vocab"]) == clip_tokenizer.VOCABULARY_SIZE
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}))
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    ours = hf_text.load_tokenizer(tmp_path, 49408)
    for text in TEXTS:
        assert tokenizer.encode(text).ids == theirs(text).input_ids == ours.encode(text).ids
    assert hf_text.clip_pad_id(tmp_path, ours) == theirs.pad_token_id
    assert tokenizer.token_to_id(pad) == theirs.pad_token_id


@pytest.mark.parametrize("place", ["sd1_tiny/tokenizer", "xl_small/tokenizer_2"])
def test_a_folder_s_own(place):
    theirs = transformers.CLIPTokenizer.from_pretrained(GOLDEN / place)
    ours = hf_text.load_tokenizer(GOLDEN / place, 526)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text).input_ids


def test_a_vocabulary_that_does_not_fit(tmp_path):
    folder = shutil.copytree(GOLDEN / "sd1_tiny" / "tokenizer", tmp_path / "tokenizer")
    merges = folder / "merges.txt"
    merges.write_text("#version: 0.2\nx y z\n")
    with pytest.raises(ValueError, match="tokenizer: a merge must be two tokens"):
        hf_text.load_tokenizer(folder, 526)
    merges.write_text("#version: 0.2\nnot there\n")
    with pytest.raises(ValueError, match="the merges do not fit the vocabulary"):
        hf_text.load_tokenizer(folder, 526)
    (folder / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match="the vocabulary lacks"):
        hf_text.load_tokenizer(folder, 526)
