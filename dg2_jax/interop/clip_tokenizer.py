"""CLIP's tokenizer: lower-cased byte-level byte-pair encoding (Radford et al., arXiv 2103.00020).

From a vocabulary and merges, as older model folders have them, or as published, from the data file
of a wheel; no model folder is needed then.
"""

import functools
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dg2_jax import extras
from dg2_jax.files import read_json, sha256

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
VOCABULARY_SIZE = 49408

_MERGES = VOCABULARY_SIZE - 2 * 256 - 2  # the file has more, which CLIP does not use
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def clip_tokenizer(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], pad_token: str = END
) -> Any:
    """A `tokenizers.Tokenizer` that adds the start and end token and does not pad.

    Args:
        vocabulary: token to id; words end with "</w>".
        merges: of two tokens, most frequent first.
        pad_token: what prompts are filled up with. It stands for itself in prompts too: where it is
            "!", an exclamation mark has the id of padding, as the published tokenizers have it.

    Raises:
        ValueError: the vocabulary has no start, end or pad token, or a merge is not of its tokens.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    missing = sorted({START, END, pad_token} - vocabulary.keys())
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
    try:
        model = models.BPE(
            vocab=dict(vocabulary), merges=list(merges), end_of_word_suffix="</w>", unk_token=END
        )
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"the merges do not fit the vocabulary: {error}") from error
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False,
        add_prefix_space=False,
    )  # fmt: skip
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (START, END, pad_token)]
    )
    return tokenizer


def read_vocabulary(folder: Path, pad_token: str = END) -> Any:
    """The tokenizer of a folder's `vocab.json` and `merges.txt`.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: one of them is damaged, or they do not fit each other; names the folder.
    """
    try:
        vocabulary = read_json(folder / "vocab.json")
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        if not isinstance(vocabulary, dict):
            raise ValueError("vocab.json must be a JSON object")
        if any(type(i) is not int or not 0 <= i < 2**31 for i in vocabulary.values()):
            raise ValueError("the ids in vocab.json must be integers from 0")
        tokenizer = clip_tokenizer(vocabulary, _merges(lines), pad_token)
        _add_words(tokenizer, _added(folder), vocabulary)
        return tokenizer
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _added(folder: Path) -> dict[str, int]:
    """The words that were added to a tokenizer, such as those of textual inversion, with ids."""
    path = folder / "added_tokens.json"
    added = read_json(path) if path.is_file() else {}
    path = folder / "tokenizer_config.json"
    values = read_json(path) if path.is_file() else {}
    told = values.get("added_tokens_decoder") or {} if isinstance(values, dict) else {}
    if not isinstance(added, dict) or not isinstance(told, dict):
        raise ValueError("its added tokens must be JSON objects")
    try:
        return {token["content"]: int(i) for i, token in told.items()} | added
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"its added_tokens_decoder is unusable: {error!r}") from error


def _add_words(tokenizer: Any, added: Mapping[str, int], vocabulary: Mapping[str, int]) -> None:
    """Lets prompts hold words, in capitals or not, which have the ids behind the vocabulary's."""
    from tokenizers import AddedToken

    new = {word: i for word, i in added.items() if word not in vocabulary}
    words = sorted(new, key=lambda word: str(new[word]).zfill(12))
    if [new[word] for word in words] != list(range(len(vocabulary), len(vocabulary) + len(new))):
        raise ValueError("the ids of its added tokens must follow those of vocab.json")
    tokenizer.add_tokens([AddedToken(word, normalized=True) for word in words])


@functools.cache
def published_tokenizer(pad_token: str = END) -> Any:
    """The tokenizer of CLIP and OpenCLIP as published, from the wheel `open-clip-torch`.

    Raises:
        FileNotFoundError: the wheel is not installed.
        ValueError: its vocabulary is not the published one.
    """
    purpose = "CLIP's tokenizer, of which this model has none of its own,"
    path = extras.data_folder("open_clip", purpose) / "bpe_simple_vocab_16e6.txt.gz"
    if not path.is_file() or sha256(path) != VOCABULARY_SHA256:
        raise ValueError(f"{path} is not CLIP's published vocabulary: install it again")
    merges = _merges(gzip.decompress(path.read_bytes()).decode().splitlines())[:_MERGES]
    letters = list(_bytes_as_letters().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(pair) for pair in merges]
    vocabulary = {token: i for i, token in enumerate((*tokens, START, END))}
    return clip_tokenizer(vocabulary, merges, pad_token)


def _merges(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Of a file whose first line is a heading."""
    pairs = [tuple(line.split(" ")) for line in lines[1:] if line.strip()]
    if not pairs:
        raise ValueError("there are no merges")
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("a merge must be two tokens")
    return [(left, right) for left, right in pairs]


def _bytes_as_letters() -> dict[int, str]:
    """A printable letter for every byte: itself where it is one, else one from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + i) for i, byte in enumerate(rest)}
