"""Reads LoRA files as people share them, for Stable Diffusion's UNet and text encoders.

Two families of layouts are read: kohya's (`lora_unet_…`, `lora_te_…`, with `lora_down`, `lora_up`
and `alpha`), by diffusers' or by the original names of layers, and PEFT's and diffusers' (`unet.…`,
with `lora_A` and `lora_B`, or the older `processor.to_q_lora.down`). Either becomes

    W + w·(α/r)·A B,   A (…, in, r), B (r, out)

in the place of a kernel W (…, in, out), with w the weight it is applied with (Hu et al.,
arXiv 2106.09685).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Float
from safetensors import SafetensorError, safe_open

from dg2_jax.interop.pickle_values import CheckpointError
from dg2_jax.interop.safetensors_reader import read_safetensors
from dg2_jax.interop.stable_diffusion import original_names
from dg2_jax.interop.weights import is_finite
from dg2_jax.nn.sd_config import SDUNetConfig

KernelPath = tuple[Any, ...]  # of a kernel in a network's parameters
Kernels = dict[KernelPath, Array]

# Parts of keys by which other kinds of adapters are known.
_REFUSED = {
    "dora_scale": "a DoRA file",
    "lora_magnitude_vector": "a DoRA file",
    "lokr_": "a LoKr file",
    "hada_": "a LoHa file",
    "lora_mid": "a LoRA file with a Tucker decomposition (lora_mid)",
    "oft_": "an OFT file",
    "bundle_emb": "a LoRA file with textual-inversion embeddings",
    "lora_transformer_": "a LoRA file of a transformer model",
    "transformer.": "a LoRA file of a transformer model",
}
# What keys begin with, and the network they are of: -1 the UNet, else the text encoder's number.
_UNET = -1
_PREFIXES = (
    ("lora_unet_", _UNET),
    ("lora_te1_", 0),
    ("lora_te2_", 1),
    ("lora_te_", 0),
    ("base_model.model.", _UNET),
    ("unet.", _UNET),
    ("text_encoder_2.", 1),
    ("text_encoder.", 0),
    ("", _UNET),
)
_LEAVES = (  # of keys: pattern, and what its group says of the matrix
    (re.compile(r"\.lora_(down|up)\.weight$"), {"down": "a", "up": "b"}),
    (re.compile(r"\.lora_(A|B)(?:\.\w+)?\.weight$"), {"A": "a", "B": "b"}),
    (
        re.compile(r"(?:\.lora_linear_layer|\.lora|_lora)\.(down|up)\.weight$"),
        {"down": "a", "up": "b"},
    ),
    (re.compile(r"\.(alpha)$"), {"alpha": "alpha"}),
)
_UNET_LAYERS = [  # (name in `nn.sd_unet`, diffusers')
    (r"\.downsampler$", ".downsamplers.0.conv"),
    (r"\.upsampler$", ".upsamplers.0.conv"),
    (r"\.to_out$", ".to_out.0"),
    (r"\.ff\.inner$", ".ff.net.0.proj"),
    (r"\.ff\.outer$", ".ff.net.2"),
]
_TEXT_LAYERS = [  # (name in `nn.clip`, Hugging Face's)
    (r"^layers\.", "encoder.layers."),
    (r"\.attention\.", ".self_attn."),
    (r"\.(fc[12])$", r".mlp.\1"),
    (r"^projection$", "text_projection"),
]
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


class LoraError(ValueError):
    """A LoRA file that cannot be used; the message names the file and why."""


class Factors(NamedTuple):
    """One adapted layer: scale · a b is added to its kernel."""

    a: Float[Array, "*k i r"]
    b: Float[Array, "r o"]
    scale: Float[Array, ""]


@dataclasses.dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file, fitted to a model.

    Attributes:
        unet: the adapted kernels of the UNet.
        texts: of each text encoder.
    """

    unet: dict[KernelPath, Factors]
    texts: tuple[dict[KernelPath, Factors], ...]


def read(config: SDUNetConfig, unet: Any, texts: Sequence[Any], path: str | os.PathLike) -> Lora:
    """Reads a file for a model.

    Args:
        config: of its UNet.
        unet: parameters of its UNet.
        texts: of each of its text encoders.
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        LoraError: it is damaged, of a kind that is not read, or of another model; the first layer
            that does not fit is named.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no LoRA file {path}")
    try:
        tensors = read_safetensors(path)
        with safe_open(str(path), "numpy") as file:
            metadata = file.metadata() or {}
    except CheckpointError as error:  # which names the file
        raise LoraError(str(error)) from error
    except SafetensorError as error:
        raise LoraError(f"{path} is not a good safetensors file: {error}") from error
    for part, kind in _REFUSED.items():
        if any(part in key for key in tensors):
            raise LoraError(f"{path} is {kind}; of adapters, plain LoRA is read")
    alphas = _stated(path, metadata)
    networks = [unet, *texts]
    names = [_unet_names(config, unet), *map(_text_names, texts)]
    kernels = [dict(_kernels(params)) for params in networks]
    groups = _grouped(path, tensors)
    by_network: list[dict[KernelPath, Factors]] = [{} for _ in networks]
    for (network, layer), parts in groups.items():
        place = network + 1
        if place >= len(networks):
            raise LoraError(f"{path} is of a model with {place} text encoders, not of this one")
        name = layer.replace(".", "_")
        if place:
            name = name.removeprefix("text_model_")
        if name not in names[place]:
            raise LoraError(f"{path} does not fit the model, which has no layer {layer}")
        kernel = names[place][name]
        of_layer = (
            alpha for of, end, alpha in alphas if of == network and f".{layer}".endswith(end)
        )
        if kernel in by_network[place]:
            raise LoraError(f"{path} names the layer {layer} twice")
        by_network[place][kernel] = _factors(
            path, layer, parts, kernels[place][kernel].shape, next(of_layer, None)
        )
    return Lora(by_network[0], tuple(by_network[1:]))


def _grouped(path: Path, tensors: Mapping[str, np.ndarray]) -> dict[tuple[int, str], dict]:
    """The tensors of each layer, by (network, layer) and then "a", "b" and "alpha"."""
    groups: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    for key, tensor in tensors.items():
        for pattern, meaning in _LEAVES:
            if match := pattern.search(key):
                network, layer = _layer(key[: match.start()])
                parts, part = groups.setdefault((network, layer), {}), meaning[match[1]]
                if part in parts:
                    raise LoraError(f"{path} names the layer {layer} twice")
                parts[part] = tensor
                break
        else:
            raise LoraError(f"{path} is no LoRA file that is read here: it has a tensor {key}")
    if not groups:
        raise LoraError(f"{path} holds no tensors")
    return groups


def _layer(name: str) -> tuple[int, str]:
    """Which network a layer is of, and its name there, with old spellings made new."""
    network, name = next(
        (network, name.removeprefix(prefix))
        for prefix, network in _PREFIXES
        if name.startswith(prefix)
    )
    name = name.removeprefix("base_model.model.").replace(".processor.", ".")
    if network == _UNET:
        name = re.sub(r"\.to_out$", ".to_out.0", name)
    else:
        for old, new in _OLD_TEXT.items():
            name = re.sub(rf"\.{old}$", f".{new}", name)
    return network, name


def _factors(
    path: Path,
    layer: str,
    parts: Mapping[str, np.ndarray],
    kernel: tuple[int, ...],
    stated_alpha: float | None,
) -> Factors:
    """The matrices of a layer, in the layout of its kernel."""
    if not {"a", "b"} <= parts.keys():
        raise LoraError(f"{path} has one of two matrices only for {layer}")
    a, b = parts["a"], parts["b"]
    if any(m.dtype.kind in "biuc" or not is_finite(m) for m in (a, b)):
        raise LoraError(f"{path}: the matrices of {layer} must be finite real numbers")
    rank = len(a) if a.ndim else 0
    expected = (rank, kernel[-2], *kernel[:-2])  # as PyTorch has it
    fits = a.shape in (expected, (*expected, 1, 1)[:4]) and b.shape[:2] == (kernel[-1], rank)
    if not rank or not fits or b.size != kernel[-1] * rank:
        raise LoraError(
            f"{path} does not fit the model: {layer} has matrices {a.shape} and {b.shape}, "
            f"its kernel there is {kernel[-2]} to {kernel[-1]} channels"
        )
    alpha = parts.get("alpha", np.asarray(rank if stated_alpha is None else stated_alpha))
    if alpha.size != 1 or not np.isfinite(alpha).all():
        raise LoraError(f"{path}: the alpha of {layer} must be one finite number")
    a = np.moveaxis(a.reshape(expected), (0, 1), (-1, -2)).astype(np.float32)
    b = b.reshape(kernel[-1], rank).T.astype(np.float32)
    return Factors(jnp.asarray(a), jnp.asarray(b), jnp.float32(float(alpha.reshape(())) / rank))


def _stated(path: Path, metadata: Mapping[str, str]) -> list[tuple[int, str, float]]:
    """What the metadata of PEFT's files say of α: network, end of a layer's name ("": all), α.

    The closest comes first.
    """
    try:
        stated = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        items = [(*_layer(key), value) for key, value in stated.items()]
        if any(name == "use_rslora" and value for _, name, value in items):
            raise LoraError(
                f"{path} is a rank-stabilised LoRA file; of adapters, plain LoRA is read"
            )
        patterns = [
            (network, f".{layer}", float(alpha))
            for network, name, value in items
            if name == "alpha_pattern"
            for layer, alpha in value.items()
        ]
        return patterns + [
            (network, "", float(value)) for network, name, value in items if name == "lora_alpha"
        ]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, LoraError):
            raise
        raise LoraError(f"{path}: its metadata is unusable: {error}") from error


def _kernels(params: Any) -> Kernels:
    flat = traverse_util.flatten_dict(params)
    return {path: leaf for path, leaf in flat.items() if path[-1] == "kernel"}


def _unet_names(config: SDUNetConfig, params: Any) -> dict[str, KernelPath]:
    """Every name of a layer, with underscores, to its kernel."""
    old = {new: old for old, new in original_names.unet_modules(config).items()}
    names = {}
    for path in _kernels(params):
        name = unet_layer(_dotted(path))
        names[name.replace(".", "_")] = path
        if name in old:
            names[old[name].replace(".", "_")] = path
    return names


def _text_names(params: Any) -> dict[str, KernelPath]:
    names = {path: _spelt(_dotted(path), _TEXT_LAYERS) for path in _kernels(params)}
    return {name.replace(".", "_"): path for path, name in names.items()}


def unet_layer(name: str) -> str:
    """Diffusers' name of a layer, by its dotted name in `nn.sd_unet`."""
    return _spelt(name, _UNET_LAYERS)


def text_layer(name: str) -> str:
    """Hugging Face's name of a layer of a text encoder, by its dotted name in `nn.clip`."""
    return f"text_model.{_spelt(name, _TEXT_LAYERS)}"


def _spelt(name: str, layers: list[tuple[str, str]]) -> str:
    for pattern, replacement in layers:
        name = re.sub(pattern, replacement, name)
    return name


def _dotted(path: KernelPath) -> str:
    return ".".join(map(str, path[:-1]))
