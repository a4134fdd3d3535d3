"""Stable Diffusion's text encoders, trained along with its UNet as one network of both."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from dg2_jax.checks import check
from dg2_jax.interop.stable_diffusion.text import TextEncoders
from dg2_jax.models.model import Network, Params
from dg2_jax.text.stable_diffusion import StableDiffusionText
from dg2_jax.training import tuning
from dg2_jax.training.data import TrainingData
from dg2_jax.training.runs import DenoiserRunConfig
from dg2_jax.training.step import Denoiser
from dg2_jax.training.tuning import Tuning

LAYERS = tuple(f"attention.{name}_proj" for name in ("q", "k", "v", "out"))  # that are adapted


class Trained(NamedTuple):
    """What a run of scripts.train trains.

    Attributes:
        network: what is trained, for `step.diffusion_loss`.
        tuned: how it is trained.
        parted: the network's parameters to those of the denoiser, and the text encoder if it is
            trained too.
    """

    network: Denoiser
    tuned: Tuning
    parted: Callable[[Params], tuple[Params, StableDiffusionText | None]]


def trained(
    config: DenoiserRunConfig, data: TrainingData, network: Network, params: Params
) -> Trained:
    """What a run trains.

    Args:
        config: of the run.
        data: of the run.
        network: the denoiser.
        params: those it starts from.

    Raises:
        ValueError: as `tuning.adapters`; or captions are cut within a chunk.
    """
    if config.lora is None:
        return Trained(network, tuning.full(params), lambda weights: (weights, None))
    if not config.train_text_encoder:
        tuned = tuning.adapters(params, config.lora, config.seed, config.model)
        return Trained(network, tuned, lambda weights: (weights, None))
    text = data.load_text_encoder()
    assert isinstance(text, StableDiffusionText)  # config and data have been checked
    length = text.encoders.length
    allowed = f"a multiple of {length} with train_text_encoder"
    check(config.max_length % length == 0, "max_length", allowed, config.max_length)
    both = {"unet": params, "texts": dict(enumerate(text.encoders.params))}
    tuned = tuning.adapters(both, config.lora, config.seed, config.model, LAYERS)

    def parted(weights: Params) -> tuple[Params, StableDiffusionText]:
        return weights["unet"], dataclasses.replace(text, encoders=_bound(text.encoders, weights))

    return Trained(_Joined(network, text.encoders), tuned, parted)


@dataclasses.dataclass(frozen=True, eq=False)
class _Joined:
    """The structure of a UNet and its text encoders."""

    unet: Network
    encoders: TextEncoders

    def bind(self, params: Params) -> "_Bound":
        """The networks with their parameters."""
        return _Bound(self.unet.bind(params["unet"]), _bound(self.encoders, params))


@dataclasses.dataclass(frozen=True, eq=False)
class _Bound:
    """A UNet that is given the ids of tokens, as a `DenoiserNetwork`."""

    unet: Any
    encoders: TextEncoders

    def project_context(
        self,
        context: Float[Array, "b l d"],
        mask: Bool[Array, "b l"],
        pooled: Float[Array, "b p"] | None = None,
        time_ids: Array | None = None,
        *,
        ids: Int[Array, "b l t"],
    ) -> Any:
        """As of the UNet, with the encoding of `ids` for `context` and `pooled`."""
        whole = ids.shape[1] // self.encoders.length * self.encoders.length  # beyond is padding
        context, pooled = self.encoders.encode_ids(ids[:, :whole])
        return self.unet.project_context(context, mask[:, :whole], pooled, time_ids)

    def null_context(self, batch: int, length: int = 1) -> None:
        """None, as of the UNet."""

    def __call__(self, *args: Any, **options: Any) -> Array:
        """As of the UNet."""
        return self.unet(*args, **options)


def _bound(encoders: TextEncoders, params: Params) -> TextEncoders:
    weights = tuple(params["texts"][number] for number in range(len(encoders.towers)))
    return dataclasses.replace(encoders, params=weights)
