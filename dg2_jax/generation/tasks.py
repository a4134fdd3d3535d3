"""The tasks of a compiled program: what is sampled, where it starts, and how it becomes pictures.

A task is a static argument of compiled functions; its data (the picture, the views) are in
`Inputs`, so that another picture does not recompile.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from dg2_jax.diffusion import anagram, inpaint, inversion, sampling
from dg2_jax.diffusion.denoiser import Denoiser
from dg2_jax.diffusion.sampling import Step
from dg2_jax.diffusion.views import ViewMap
from dg2_jax.generation import coder
from dg2_jax.generation.inputs import Inputs
from dg2_jax.models.model import Network, Params
from dg2_jax.settings import Settings
from dg2_jax.typing import Keys, Latent


class Task(ABC):
    """What differs between the jobs that share the design of the program.

    Subclasses are frozen dataclasses, so that equal tasks share a compiled program.
    """

    @property
    @abstractmethod
    def copies(self) -> int:
        """Latents per image that the network evaluates, in each branch of guidance."""

    def texts(
        self, prompts: Sequence[str], negative_prompts: Sequence[str], settings: Settings
    ) -> tuple[list[str], list[str]]:
        """`copies` prompts and negative prompts per image, in the order of the latents."""
        return list(prompts), list(negative_prompts)

    def start(self, inputs: Inputs) -> tuple[Latent, Keys]:
        """The starting latents, and a key for each."""
        source = inputs.source
        noise = sampling.initial_noise(inputs.keys, source.start.shape[1:], inputs.variation)
        return source.alpha * source.start + source.sigma * noise, inputs.keys

    @abstractmethod
    def wrap(self, denoise: Denoiser, inputs: Inputs, autoencoder_params: Params) -> Denoiser:
        """The denoiser of the sampled latents, from the guided one of all copies."""

    def follow(self, step: Step, inputs: Inputs) -> Step:
        """The sampling step, from the solver's step."""
        return step

    def finish(
        self, latents: Latent, inputs: Inputs, autoencoder: Network, autoencoder_params: Params
    ) -> UInt8[Array, "n H W 3"]:
        """One picture per image from all sampled latents."""
        return coder.decode(autoencoder, autoencoder_params, latents)


@dataclass(frozen=True)
class Plain(Task):
    """One latent per image: txt2img, img2img and in-painting."""

    @property
    def copies(self) -> int:
        """See `Task`."""
        return 1

    def wrap(self, denoise: Denoiser, inputs: Inputs, autoencoder_params: Params) -> Denoiser:
        """Keeps the original where the change map requires it."""
        # An inversion visits it last.
        noisiest = jnp.max(jnp.asarray(inputs.table.timestep), axis=-1)
        original, change = inputs.source.original, inputs.source.change
        return inpaint.keep_original(denoise, original, change, noisiest)


@dataclass(frozen=True)
class _Anagram(Task):
    """What both tasks of an anagram share.

    Attributes:
        views: how many there are.
    """

    views: int

    @property
    def copies(self) -> int:
        """See `Task`."""
        return self.views

    def texts(
        self, prompts: Sequence[str], negative_prompts: Sequence[str], settings: Settings
    ) -> tuple[list[str], list[str]]:
        """The anagram's prompts, view by view."""
        pairs = settings.anagram or ()
        own = [text for text, _ in pairs for _ in negative_prompts]
        return own, [*negative_prompts] * len(pairs)


@dataclass(frozen=True)
class SharedAnagram(_Anagram, Plain):
    """One latent per image, seen in every view; `inputs.views` are of latents."""

    def wrap(self, denoise: Denoiser, inputs: Inputs, autoencoder_params: Params) -> Denoiser:
        """Averages the views' estimates, then does as `Plain`."""
        shared = anagram.shared_latent(denoise, _views(inputs), inputs.corrected)
        return super().wrap(shared, inputs, autoencoder_params)


@dataclass(frozen=True)
class PixelAnagram(_Anagram):
    """One latent per view, synchronised in pixels at every step; `inputs.views` are of pixels.

    Attributes:
        autoencoder: of the model.
    """

    autoencoder: Network

    def start(self, inputs: Inputs) -> tuple[Latent, Keys]:
        """Separate noise for each view."""
        keys = jnp.concatenate(
            [
                jax.vmap(lambda key, view=view: jax.random.fold_in(key, view))(inputs.keys)
                for view in range(self.views)
            ]
        )
        return sampling.initial_noise(keys, inputs.source.start.shape[1:]), keys

    def wrap(self, denoise: Denoiser, inputs: Inputs, autoencoder_params: Params) -> Denoiser:
        """Makes the views agree."""
        encode, decode = coder.bind(self.autoencoder, autoencoder_params)
        return anagram.synchronised(denoise, _views(inputs), encode, decode)

    def finish(
        self, latents: Latent, inputs: Inputs, autoencoder: Network, autoencoder_params: Params
    ) -> UInt8[Array, "n H W 3"]:
        """The mean of the views, turned back."""
        return coder.decode_views(autoencoder, autoencoder_params, latents, _views(inputs))


@dataclass(frozen=True)
class FollowSource(Task):
    """An edit and its source per image, by the edit-friendly inversion of DDPM."""

    @property
    def copies(self) -> int:
        """See `Task`."""
        return 2

    def texts(
        self, prompts: Sequence[str], negative_prompts: Sequence[str], settings: Settings
    ) -> tuple[list[str], list[str]]:
        """The edits, then the sources, which are not guided: both of their texts are the same."""
        source = [settings.source_prompt] * len(prompts)
        return [*prompts, *source], [*negative_prompts, *source]

    def start(self, inputs: Inputs) -> tuple[Latent, Keys]:
        """Edits and sources at the first level of the source's path."""
        first = sampling.row_of(jax.tree.map(jnp.asarray, inputs.table), jnp.int32(0))
        x = inversion.source_path(
            inputs.source.start, inputs.keys, jnp.int32(0), first.alpha, first.sigma
        )
        return jnp.concatenate([x, x]), jnp.concatenate([inputs.keys, inputs.keys])

    def wrap(self, denoise: Denoiser, inputs: Inputs, autoencoder_params: Params) -> Denoiser:
        """The denoiser, unchanged."""
        return denoise

    def follow(self, step: Step, inputs: Inputs) -> Step:
        """Puts the sources back onto their path after each step."""
        return inversion.follow_source(step, inputs.table, inputs.source.start, inputs.keys)

    def finish(
        self, latents: Latent, inputs: Inputs, autoencoder: Network, autoencoder_params: Params
    ) -> UInt8[Array, "n H W 3"]:
        """The edits."""
        return coder.decode(autoencoder, autoencoder_params, latents[: len(inputs.keys)])


def of_settings(settings: Settings, autoencoder: Network, num_steps: int) -> Task:
    """The task of a call.

    Args:
        settings: of the call.
        autoencoder: of the model.
        num_steps: number of steps; with none there is no source path to follow.
    """
    if settings.anagram is not None:
        views = len(settings.anagram)
        if settings.anagram_mode == "pixel":
            return PixelAnagram(views, autoencoder)
        return SharedAnagram(views)
    if settings.inversion == "ddpm" and num_steps:
        return FollowSource()
    return Plain()


def _views(inputs: Inputs) -> ViewMap:
    if inputs.views is None:
        raise ValueError("views must be given to the program of an anagram")
    return inputs.views
