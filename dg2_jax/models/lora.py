"""Low-rank adapters of attention layers (LoRA; Hu et al., arXiv 2106.09685).

A layer y = x W with W (in, out) becomes y = x (W + w·(α/r)·A B), where A is (in, r), B is (r, out)
and w is the weight it is applied with. Adapters are a separate pytree, and applying them maps a
network's parameters to other parameters: networks know nothing about them.

    file.safetensors    `<layer>.a` and `<layer>.b` of every adapted layer; the architecture,
                        rank, alpha and targets as metadata
"""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.flax
from jaxtyping import Array, Float
from safetensors import SafetensorError, safe_open

from dg2_jax.checks import check
from dg2_jax.files import replacing
from dg2_jax.interop import file_kinds
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.interface import LORA_TARGETS
from dg2_jax.models.model import Model, Params
from dg2_jax.models.weights_file import flatten, unflatten

Adapters = dict[str, dict[str, Float[Array, "_ _"]]]  # layer to its "a" and "b"

FORMAT = "dg2_jax.lora"
_KERNEL = ".kernel"


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which layers are adapted, and how.

    Attributes:
        rank: r, the width of the adapters, at least 1.
        alpha: α, above 0; the change is scaled by α/r, so that a learning rate suits every rank.
        targets: some of `LORA_TARGETS`: the attention of the picture to itself and to the text.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = LORA_TARGETS

    def __post_init__(self) -> None:
        check(self.rank >= 1, "lora.rank", "at least 1", self.rank)
        check(0 < self.alpha < math.inf, "lora.alpha", "a number above 0", self.alpha)
        allowed = f"one or more of {', '.join(LORA_TARGETS)}"
        check(len(self.targets) > 0, "lora.targets", allowed, self.targets)
        check(set(self.targets) <= set(LORA_TARGETS), "lora.targets", allowed, self.targets)

    @property
    def scale(self) -> float:
        """α/r."""
        return self.alpha / self.rank


class LoraError(ValueError):
    """A file of adapters that cannot be used; the message names the file and why."""


def layers(
    params: Params, targets: tuple[str, ...], architecture: str, more: tuple[str, ...] = ()
) -> dict[str, tuple[int, int]]:
    """The adapted layers by dotted name, with their widths (in, out).

    Args:
        params: of the network, or their shapes.
        targets: some of `LORA_TARGETS`.
        architecture: of the network, a name in `ARCHITECTURES`.
        more: the last parts of the names of further layers.
    """
    ends_of = ARCHITECTURES[architecture].lora_targets
    named = (*(end for target in targets for end in ends_of[target]), *more)
    ends = tuple(f".{end}{_KERNEL}" for end in named)
    return {
        name.removesuffix(_KERNEL): kernel.shape
        for name, kernel in flatten(params).items()
        if name.endswith(ends)
    }


def create(
    params: Params, config: LoraConfig, seed: int, architecture: str, more: tuple[str, ...] = ()
) -> Adapters:
    """New adapters, which change nothing: A is N(0, 1/in), B is zero.

    Args:
        params: of the network, for its layers.
        config: of the adapters.
        seed: of A, at least 0.
        architecture: of the network, a name in `ARCHITECTURES`.
        more: as of `layers`.

    Raises:
        ValueError: the rank is above a layer's width, or there are no such layers.
    """
    shapes = layers(params, config.targets, architecture, more)
    if not shapes:
        raise ValueError(
            f"lora.targets: this network has no {' or '.join(config.targets)}-attention"
        )
    most = min(min(shape) for shape in shapes.values())
    check(config.rank <= most, "lora.rank", f"at most {most} with this network", config.rank)
    rng = np.random.default_rng(seed)  # JAX would compile a generator for every shape
    return {
        name: {
            "a": jnp.asarray(rng.normal(0, width**-0.5, (width, config.rank)), jnp.float32),
            "b": jnp.zeros((config.rank, out), jnp.float32),
        }
        for name, (width, out) in shapes.items()
    }


def apply(params: Params, adapters: Adapters, scale: float | Float[Array, ""]) -> Params:
    """The network's parameters with W + scale·A B instead of W.

    Args:
        params: of the network.
        adapters: of some of its layers.
        scale: w·α/r; 0 changes nothing.
    """
    flat = flatten(params)
    for name, factor in adapters.items():
        kernel = flat[name + _KERNEL]
        change = scale * (factor["a"] @ factor["b"])
        flat[name + _KERNEL] = (kernel.astype(jnp.float32) + change).astype(kernel.dtype)
    return unflatten(flat, params)


def prepared(params: Params, adapters: Adapters) -> Params:
    """The network's parameters with the adapted kernels in float32, in which small changes show."""
    flat = flatten(params)
    for name in adapters:
        flat[name + _KERNEL] = jnp.asarray(flat[name + _KERNEL], jnp.float32)
    return unflatten(flat, params)


def save(path: str | Path, adapters: Adapters, config: LoraConfig, architecture: str) -> None:
    """Writes adapters, in float32, as one safetensors file.

    Args:
        path: the file.
        adapters: as of `create`.
        config: theirs.
        architecture: of the network, a name in `ARCHITECTURES`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "format": FORMAT,
        "architecture": architecture,
        "rank": str(config.rank),
        "alpha": repr(config.alpha),
        "targets": json.dumps(config.targets),
    }
    flat = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in flatten(adapters).items()}
    with replacing(path) as partial:
        safetensors.flax.save_file(flat, str(partial), metadata)


def is_own(path: Path) -> bool:
    """Whether a file says that `save` wrote it."""
    try:
        with safe_open(str(path), "flax") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def adapted(model: Model, path: str | Path, weight: float = 1.0) -> Model:
    """A model with an adapter applied to each of its sets of weights.

    Args:
        model: the model, which is not changed.
        path: what `save` wrote.
        weight: w; 0 changes nothing, 1 is as trained.

    Raises:
        FileNotFoundError, LoraError: as `load`.
        ValueError: the weight is not finite, or the model is quantized.
    """
    if model.denoiser.is_quantized:
        raise ValueError(f"lora must be added before {model.name} is quantized")
    check(math.isfinite(weight), "weight", "a finite number", weight)
    sets = model.params
    adapters, config = load(path, next(iter(sets.values())), model.config["model"])
    changed = jax.jit(apply)
    return dataclasses.replace(
        model,
        name=f"{model.name}+{Path(path).stem}:{weight:g}",
        params=sets.mapped(lambda params: changed(params, adapters, weight * config.scale)),
    )


def load(path: str | Path, params: Params, architecture: str) -> tuple[Adapters, LoraConfig]:
    """Reads adapters for a network.

    Args:
        path: what `save` wrote.
        params: of the network, or their shapes.
        architecture: of the network.

    Raises:
        FileNotFoundError: there is no such file.
        LoraError: it is not a file of adapters, or they are not for this network; the message names
            the first layer that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no LoRA file {path}")
    try:
        with safe_open(str(path), "flax") as file:
            metadata = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        file_kinds.refuse_other(path, "safetensors", LoraError)
        raise LoraError(f"{path} is not a good safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise LoraError(f"{path} holds no adapters of this project: its metadata has no {FORMAT}")
    try:
        config = LoraConfig(
            int(metadata["rank"]), float(metadata["alpha"]), tuple(json.loads(metadata["targets"]))
        )
    except (KeyError, ValueError, TypeError) as error:
        raise LoraError(f"{path}: its metadata is unusable: {error}") from error
    if metadata.get("architecture") != architecture:
        raise LoraError(
            f"{path} is for a model of architecture {metadata.get('architecture')}, "
            f"this one is {architecture}"
        )
    like = {
        name: {
            "a": jax.ShapeDtypeStruct((width, config.rank), jnp.float32),
            "b": jax.ShapeDtypeStruct((config.rank, out), jnp.float32),
        }
        for name, (width, out) in layers(params, config.targets, architecture).items()
    }
    needed = {name: leaf.shape for name, leaf in flatten(like).items()}
    saved = {name: leaf.shape for name, leaf in flat.items()}
    for name in sorted(needed.keys() | saved.keys()):
        if saved.get(name) != needed.get(name):
            raise LoraError(
                f"{path} does not fit the model: {name} has shape {saved.get(name)}, "
                f"the model needs {needed.get(name)}"
            )
    return unflatten(flat, like), config
