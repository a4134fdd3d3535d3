"""The interface between the denoiser networks and the code that trains, samples and saves them.

A new family of networks is a module of `dg2_jax.nn` that fulfils `DenoiserNetwork`, and an entry
in `dg2_jax.models.architectures`: an `Architecture`, which holds what differs between families.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax import config as config_lib
from dg2_jax.typing import Context, ContextMask, Latent, Time

LORA_TARGETS = ("self", "cross")  # attention of the picture to itself, and to the text

# What a network can be given besides latents and text, see `Architecture.abilities`.
SIZES = "sizes"  # original size, crop and target size of the picture
GUIDANCE = "guidance"  # the guidance scale: it was distilled to do without a second evaluation
MASK = "mask"  # in-painting: the mask and what it leaves, as further channels of its input
CONTROL = "control"  # the residuals of a ControlNet


@runtime_checkable
class DenoiserNetwork(Protocol):
    """A network that predicts ε, v or x₀ of noisy latents, conditioned on text.

    It is used in two calls, so that anything that depends on the text alone is computed once per
    prompt instead of at every sampling step:

        conditioning = network.project_context(context, mask)
        output = network(x, t, conditioning)

    A network whose architecture `has_deep_features` also fulfils
    `dg2_jax.diffusion.reuse.DeepNetwork`.
    """

    def project_context(
        self,
        context: Context,
        mask: ContextMask | None,
        pooled: Float[Array, "b p"] | None = None,
        time_ids: Float[Array, "b i"] | None = None,
    ) -> Any:
        """Everything that depends on the conditions alone.

        Every network takes all four arguments. One without use for the last two ignores them. A
        network that can do `GUIDANCE` takes `guidance` too, the scale of each picture.

        Args:
            context: text tokens.
            mask: True where a token is real; see `Architecture.masks_padding`. None: all are.
            pooled: one vector per text.
            time_ids: sizes and crop of the picture in pixels, as in Stable Diffusion XL.

        Returns:
            A pytree of arrays whose first axis is the batch.

        Raises:
            ValueError: the network needs a condition that is None.
        """

    def null_context(self, batch: int, length: int = 1) -> tuple[Context, ContextMask] | None:
        """The learnt "no text" condition, padded to `length` tokens.

        None for a network without one; the encoding of the empty prompt stands for it.
        """

    def __call__(
        self,
        x: Latent,
        t: Time,
        conditioning: Any,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Latent:
        """The prediction for noisy latents.

        Args:
            x: (b, h, w, c), h and w multiples of the configuration's `latent_multiple`.
            t: training timesteps, integers in [0, T).
            conditioning: from `project_context`, of the same batch.
            dropout_key: turns dropout on (training only).

        Raises:
            ValueError: h or w is not such a multiple.
        """


class TensorRules(NamedTuple):
    """How the axis "tensor" divides wide layers (Megatron, arXiv 1909.08053).

    Attributes:
        by_outputs: the last parts of the names of layers divided along their outputs: those that
            produce attention heads or hidden units.
        by_inputs: of layers divided along their inputs: those that take them in.
    """

    by_outputs: tuple[str, ...] = ()
    by_inputs: tuple[str, ...] = ()

    def axis(self, name: str) -> int | None:
        """The axis along which a weight of this dotted name is divided; None: along none."""
        for axis, layers in ((-1, self.by_outputs), (-2, self.by_inputs)):
            if f".{name}".endswith(tuple(f".{layer}.kernel" for layer in layers)):
                return axis
        return None


def _none(config: Any) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class Architecture:
    """One family of denoiser networks.

    Attributes:
        config: its configuration, a dataclass with the field `in_channels` and the property
            `latent_multiple`; the height and width of a latent must be multiples of that many
            cells.
        module: where its constructor is, such as "dg2_jax.nn.unet:UNet", which is imported when a
            network is built; of a `DenoiserNetwork`.
        context_width: the field of `config` that holds the width of the text tokens.
        masks_padding: whether padding tokens are ignored. If not, training and sampling must pad
            contexts to the same length.
        has_null_context: whether `null_context` is learnt, and so never None.
        lora_targets: the last parts of the names of the layers that low-rank adapters change, for
            each of `LORA_TARGETS`.
        tensor_rules: the layers that are divided between devices.
        has_deep_features: from a configuration to whether deep features can be reused between
            sampling steps (`reuse_every`).
        abilities: from a configuration to those of `SIZES`, `GUIDANCE`, `MASK` and `CONTROL` that
            the network has.
    """

    config: type
    module: str
    context_width: str
    masks_padding: bool
    has_null_context: bool
    lora_targets: Mapping[str, tuple[str, ...]]
    tensor_rules: TensorRules
    has_deep_features: Callable[[Any], bool]
    abilities: Callable[[Any], frozenset[str]] = _none

    @property
    def constructor(self) -> Callable[..., Any]:
        """`constructor(config, rngs=...)` of a network."""
        constructor: Callable[..., Any] = pkgutil.resolve_name(self.module)
        return constructor

    def parse(self, values: Mapping[str, Any], path: str) -> Any:
        """The configuration that a mapping holds; `path` is what errors call the mapping.

        Raises:
            ValueError: an unknown or missing key, or a value that is not allowed.
        """
        return config_lib.from_mapping(self.config, values, path)

    def context_dim(self, config: Any) -> int:
        """The width of the text tokens that a network of this configuration takes."""
        return getattr(config, self.context_width)
