"""CLIP's tokenizer has the ids of `transformers`, from a folder and as published."""

import json
import shutil

import pytest
from sd_files import GOLDEN, PROMPTS

from dg2_jax.interop import clip_tokenizer, hf_text
from dg2_jax.nn import clip

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
    merges.write_text("")
    with pytest.raises(ValueError, match="tokenizer: there are no merges"):
        hf_text.load_tokenizer(folder, 526)
    merges.write_text("#version: 0.2\nnot there\n")
    with pytest.raises(ValueError, match="the merges do not fit the vocabulary"):
        hf_text.load_tokenizer(folder, 526)
    (folder / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match="the vocabulary lacks"):
        hf_text.load_tokenizer(folder, 526)


def test_words_that_were_added(tmp_path):
    folder = shutil.copytree(GOLDEN / "sd1_tiny" / "tokenizer", tmp_path / "tokenizer")
    texts = ["a <Cat> lake", "zorg<Cat>", "a <cat> Zorg", " zorg, zorgs! <|endoftext|>", *TEXTS]
    file = folder / "added_tokens.json"
    size = len(json.loads((folder / "vocab.json").read_text()))
    file.write_text(json.dumps({"zorg": size + 1, "<Cat>": size}))
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    assert theirs("<Cat>").input_ids[1] == size
    ours = hf_text.load_tokenizer(folder, size + 2)
    for text in texts:
        assert ours.encode(text).ids == theirs(text).input_ids
    # As it is written today.
    file.unlink()
    config = folder / "tokenizer_config.json"
    told = {str(size): {"content": "<Cat>"}, str(size + 1): {"content": "zorg"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), "added_tokens_decoder": told}))
    assert (
        hf_text.load_tokenizer(folder, size + 2).encode(texts[1]).ids == theirs(texts[1]).input_ids
    )
    with pytest.raises(ValueError, match=f"of {size + 2} tokens, model of vocab_size {size}"):
        hf_text.load_tokenizer(folder, size)
    for added, message in (
        ({"zorg": size + 2}, "ids of its added tokens must follow those of vocab.json"),
        ({"zorg": "x"}, "ids of its added tokens must follow those of vocab.json"),
        ([1], "its added tokens must be JSON objects"),
    ):
        file.write_text(json.dumps(added))
        with pytest.raises(ValueError, match=message):
            hf_text.load_tokenizer(folder, size + 2)


def test_the_length_of_prompts_is_the_tokenizer_s(tmp_path):
    config = clip.ClipTextConfig(max_position_embeddings=77)
    assert hf_text.clip_length(tmp_path, config) == 77
    for told, length in ((40, 40), (77, 77), (1e30, 77), (None, 77)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": told}))
        assert hf_text.clip_length(tmp_path, config) == length
    for told in (2, "77", True, float("nan")):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": told}))
        with pytest.raises(ValueError, match="model_max_length must be a number from 3"):
            hf_text.clip_length(tmp_path, config)
