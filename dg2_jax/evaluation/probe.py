"""The attribute probe, a small classifier of subject, time of day and weather in a picture.

It is trained on renders of `dg2_scenes`, whose attributes are known (`scripts/train_probe.py`), and
tells whether generated pictures show what their prompts say.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from dg2_jax import config as config_lib
from dg2_jax.evaluation.cases import ATTRIBUTES, Expected
from dg2_jax.models import weights_file
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.convolution import conv3x3
from dg2_jax.nn.modules import split
from dg2_jax.nn.network import Network, Params
from dg2_jax.nn.vae_blocks import ResnetBlock, group_norm, space_to_depth
from dg2_jax.pictures.images import from_uint8
from dg2_jax.typing import Pixels

SHIPPED = Path(__file__).parents[1] / "pretrained" / "probe"
_BATCH = 64


@dataclass(frozen=True)
class ProbeConfig:
    """The network.

    Attributes:
        patch_size: side in pixels of the patches that the first layer folds into channels.
        channels: of each level; every level after the first halves height and width.
        norm_groups: groups of the normalisations; divides every width.
        image_size: side of its input; larger pictures, whose sides are multiples of it, are
            averaged down, so that models of several sizes can be compared.
    """

    patch_size: int = 4
    channels: tuple[int, ...] = (64, 128, 256)
    norm_groups: int = 16
    image_size: int = 128


class AttributeProbe(nnx.Module):
    """Residual blocks and 2 x 2 means down to one vector, and a linear head per attribute."""

    def __init__(self, config: ProbeConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.channels[0]
        self.conv_in = conv3x3(3 * config.patch_size**2, width, rngs)
        blocks = []
        for channels in config.channels:
            blocks.append(ResnetBlock(width, channels, config.norm_groups, rngs=rngs))
            width = channels
        self.blocks = nnx.List(blocks)
        self.norm = group_norm(width, config.norm_groups, rngs)
        self.heads = nnx.Dict(
            {name: nnx.Linear(width, len(values), rngs=rngs) for name, values in ATTRIBUTES.items()}
        )

    def features(self, pixels: Pixels) -> Float[Array, "b f"]:
        """The input of the heads: one vector per picture in [-1, 1], as wide as the last level."""
        factor = pixels.shape[1] // self.config.image_size
        if factor > 1 and pixels.shape[1] == pixels.shape[2] == factor * self.config.image_size:
            pixels = nnx.avg_pool(pixels, (factor, factor), (factor, factor))
        return jnp.mean(nnx.silu(self.norm(self.levels(pixels)[-1])), axis=(1, 2))

    def levels(self, pixels: Pixels) -> list[Float[Array, "b _ _ _"]]:
        """The features of every level, finest first."""
        x, levels = self.conv_in(space_to_depth(pixels, self.config.patch_size)), []
        for level, block in enumerate(self.blocks):
            if level:
                x = nnx.avg_pool(x, (2, 2), (2, 2))
            x = block(x)
            levels.append(x)
        return levels

    def __call__(self, features: Float[Array, "b f"]) -> dict[str, Float[Array, "b _"]]:
        """The logits of every attribute, from the features."""
        return {name: head(features) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Seen:
    """What a probe sees in n pictures.

    Attributes:
        log_probabilities: of each attribute, (n, its values).
        features: (n, f).
    """

    log_probabilities: dict[str, np.ndarray]
    features: np.ndarray

    def accuracy(self, expected: Expected) -> dict[str, float]:
        """The share of correct pictures for each attribute, and "joint": correct in all of them.

        Args:
            expected: of each of the n pictures.

        Raises:
            ValueError: an attribute is unknown.
        """
        if unknown := set(expected) - set(ATTRIBUTES):
            raise ValueError(f"expected must have attributes of {', '.join(ATTRIBUTES)}: {unknown}")
        shares, joint = {}, np.ones(len(self.features), bool)
        for name, value in expected.items():
            asked = np.asarray(value) >= 0
            right = self.log_probabilities[name].argmax(-1) == value
            shares[name] = float(right[asked].mean()) if asked.any() else float("nan")
            joint &= right | ~asked
        return shares | {"joint": float(joint.mean())}


class Probe:
    """A trained probe, ready to be called."""

    def __init__(self, network: Network, params: Params):
        def see(params: Params, images: Array) -> tuple[dict[str, Array], Array]:
            module = network.bind(params)
            features = module.features(from_uint8(images))
            return jax.tree.map(jax.nn.log_softmax, module(features)), features

        self._params = params
        self._see = jax.jit(see)

    @classmethod
    def load(cls, folder: str | Path = SHIPPED) -> "Probe":
        """Loads what `save` wrote, by default the shipped probe; errors as of `load_probe`."""
        return cls(*split(load_probe(folder)))

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Seen:
        """Looks at any number of uint8 pictures; see `ProbeConfig.image_size`."""
        logs: list[dict[str, np.ndarray]] = []
        features: list[np.ndarray] = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            padding = [(0, _BATCH - len(batch)), (0, 0), (0, 0), (0, 0)]
            seen = jax.device_get(self._see(self._params, np.pad(batch, padding, mode="edge")))
            logs.append({name: values[: len(batch)] for name, values in seen[0].items()})
            features.append(seen[1][: len(batch)])
        together = {name: np.concatenate([log[name] for log in logs]) for name in ATTRIBUTES}
        return Seen(together, np.concatenate(features))


def load_probe(folder: str | Path = SHIPPED) -> AttributeProbe:
    """Loads the network that `save` wrote; by default the shipped one.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: a file is damaged.
    """
    path = Path(folder) / "probe.json"
    if not path.is_file():
        raise FileNotFoundError(f"no probe in {folder} (no probe.json)")
    values = json.loads(path.read_text("utf-8"))
    config = config_lib.from_mapping(ProbeConfig, values, str(path))
    network, shapes = split(abstract(lambda rngs: AttributeProbe(config, rngs=rngs)))
    return network.bind(weights_file.load(Path(folder) / "probe.safetensors", shapes))


def save(folder: str | Path, config: ProbeConfig, params: Params) -> None:
    """Writes probe.json and probe.safetensors (bfloat16)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights_file.save(folder / "probe.safetensors", params, jnp.bfloat16)
    text = json.dumps(config_lib.to_dict(config), indent=1)
    (folder / "probe.json").write_text(text + "\n", "utf-8")
