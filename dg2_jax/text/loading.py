"""Loads text encoders: the embedded MiniLM, or a BERT or CLIP in Hugging Face layout."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dg2_jax.interop import hf_text
from dg2_jax.nn.network import Bound
from dg2_jax.text.encoder import TextEncoder
from dg2_jax.text.forward import Forward, bert_output, clip_output

CLIP = "openai/clip-vit-base-patch32"
_BERT_LENGTH = 64
_BERT_LENGTHS = (8, 16, 24, 32, 48, 64, 128, 256)  # few compilations, little padding


def from_config(config: Mapping[str, Any]) -> TextEncoder:
    """The text encoder that a model's config.json names, see `dg2_jax.models.folder`.

    Args:
        config: "name", and maybe "max_length" and "mask_padding".

    Raises:
        ValueError, FileNotFoundError: as `load_text_encoder`.
    """
    encoder = load_text_encoder(config["name"], config.get("max_length"))
    return dataclasses.replace(encoder, mask_padding=config.get("mask_padding", True))


def load_text_encoder(
    source: str, max_length: int | None = None, *, long_prompts: str = "cut"
) -> TextEncoder:
    """Loads a text encoder.

    Args:
        source: "minilm", the default, which needs no download (all-MiniLM-L6-v2; D = E = 384);
            "clip", which is `openai/clip-vit-base-patch32` (D = E = 512); or a folder or hub id of
            a BERT or CLIP model in Hugging Face layout. BERT's context is zero at padding; CLIP's
            is its last hidden state at all L positions, as in DiffusionGen2.
        max_length: L; None is 64 for BERT, and the model's own limit (77) for CLIP.
        long_prompts: how prompts beyond L are handled, see `TextEncoder`.

    Raises:
        ValueError: for another kind of model, a `max_length` that the model does not support, or
            weights that do not fit.
        FileNotFoundError: naming the missing files.
    """
    if source == "minilm":
        name, folder = source, hf_text.minilm_folder()
    else:
        name, folder = source, hf_text.find_folder(CLIP if source == "clip" else source)
    kind = hf_text.read_config(folder).get("model_type")
    if kind == "bert":
        bert = hf_text.load_bert(folder)
        tokenizer = hf_text.load_tokenizer(folder, bert.config.vocab_size)
        return bert_encoder(name, bert, tokenizer, max_length, long_prompts)
    if kind in ("clip", "clip_text_model"):
        clip, config = hf_text.load_clip_text(folder)
        tokenizer = hf_text.load_tokenizer(folder, config.vocab_size)
        pad_id = hf_text.clip_pad_id(folder, tokenizer)
        from dg2_jax.nn.modules import split  # late: it imports Flax

        tower = Bound(*split(clip), config)
        return clip_encoder(name, tower, tokenizer, pad_id, max_length, long_prompts)
    raise ValueError(
        f"{folder}: model_type must be 'bert', 'clip' or 'clip_text_model', not {kind!r}"
    )


def bert_encoder(
    name: str,
    bert: Bound,
    tokenizer: Any,
    max_length: int | None = None,
    long_prompts: str = "cut",
) -> TextEncoder:
    """A BERT as text encoder; the sentence vector is the mean over its tokens, normalised."""
    width, limit = bert.config.hidden_size, bert.config.max_position_embeddings
    length = _checked_length(max_length, min(_BERT_LENGTH, limit), limit)
    forward = Forward(bert.network, bert_output)
    lengths = (*(n for n in _BERT_LENGTHS if n < length), length)
    return TextEncoder(
        name, width, length, tokenizer, 0, forward, bert.params, lengths, long_prompts
    )


def clip_encoder(
    name: str,
    tower: Bound,
    tokenizer: Any,
    pad_id: int,
    max_length: int | None = None,
    long_prompts: str = "cut",
) -> TextEncoder:
    """CLIP's text tower as text encoder; the sentence vector is its projection, normalised."""
    width, limit = tower.config.hidden_size, tower.config.max_position_embeddings
    length = _checked_length(max_length, limit, limit)
    forward = Forward(tower.network, clip_output)
    return TextEncoder(
        name,
        width,
        length,
        tokenizer,
        pad_id,
        forward,
        tower.params,
        (length,),
        long_prompts,
    )


def _checked_length(max_length: int | None, default: int, limit: int) -> int:
    length = default if max_length is None else max_length
    if not 3 <= length <= limit:
        raise ValueError(f"max_length must lie in 3..{limit}, not {length}")
    return length
