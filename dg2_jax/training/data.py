"""The training data of a denoiser: an encoded data set, or DiffusionGen2's latent shards."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dg2_jax.data import encoding, latents
from dg2_jax.data.loader import Batch, Buckets, Example, Source, Transform, in_turn
from dg2_jax.interop import diffusers_vae
from dg2_jax.interop.dg2_latents import LatentShards
from dg2_jax.interop.hf_folder import lasting_name
from dg2_jax.models import coders
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.scaling import Scaling
from dg2_jax.text.interface import PromptEncoder
from dg2_jax.text.stable_diffusion import StableDiffusionText
from dg2_jax.training import runs, starting


@dataclass(frozen=True)
class TrainingData:
    """Examples, and what is needed to sample from and export a network trained on them.

    Attributes:
        train: the examples, in buckets if there are several sizes.
        transform: of the loader; None for none.
        collate: of the loader.
        validation: batches of held-out examples.
        latent_shape: (h, w, c), of a square picture if there are several sizes.
        context_dim: width of the text tokens.
        scaling: of the examples' latents.
        vae: the autoencoder, as `dg2_jax.models.folder` describes it.
        text_encoder: the text encoder, as `dg2_jax.models.coders` describes it.
        load_autoencoder: loads it.
        default_size: side of a picture in pixels.
        preview: the linear preview of the latents, as `dg2_jax.models.folder` describes it; None
            for the published one.
        captions: of held-out pictures; empty if the data does not contain them as text.
    """

    train: Source | Buckets
    transform: Transform | None
    collate: Callable[[Sequence[Example]], Batch]
    validation: Sequence[Batch]
    latent_shape: tuple[int, int, int]
    context_dim: int
    scaling: Scaling
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    load_autoencoder: Callable[[], AutoencoderKL]
    default_size: int
    preview: Mapping[str, Any] | None = None
    captions: tuple[str, ...] = ()

    def load_text_encoder(self) -> PromptEncoder:
        """The text encoder whose tokens the examples hold."""
        return coders.text_encoder(self.text_encoder)


def open_data(
    folder: str | Path,
    config: runs.DenoiserRunConfig,
    vae: str = diffusers_vae.STABLE_DIFFUSION,
    text_encoder: str = "clip",
) -> TrainingData:
    """The data in a folder.

    Args:
        folder: the output of `scripts.prepare`, or latent shards (`.pt`).
        config: the run.
        vae: the autoencoder of latent shards, which do not name it: a folder or hub id.
        text_encoder: likewise, as for `dg2_jax.text.loading.load_text_encoder`.

    Raises:
        FileNotFoundError: there is no data.
        ValueError: it is damaged, or the denoiser does not fit it.
    """
    folder = Path(folder)
    if any(folder.glob("*.pt")):
        return _shards(folder, config, vae, text_encoder)
    return _encoded(folder, config)


def _encoded(folder: Path, config: runs.DenoiserRunConfig) -> TrainingData:
    manifest = latents.read_manifest(folder)
    vae = encoding.load_autoencoder(folder)
    train, validation = (
        latents.open_split(folder, split, skip_damaged=config.loop.skip_damaged)
        for split in ("train", "validation")
    )
    latent_shape = train[0][0]["mean"].shape
    if len(train) > 1:
        side = manifest["size"] // vae.downsampling_factor
        latent_shape = side, side, latent_shape[-1]
    starting.check_data(config, latent_shape, manifest["context_dim"])
    starting.check_scaling(config, vae.config)
    text = manifest["text_encoder"]
    with_ids = config.train_text_encoder
    if with_ids and "ids" not in train[0][0]:
        raise ValueError(
            "train_text_encoder needs the captions' token ids in data_dir: prepare them again in "
            "a new folder with: dg2 prepare --model=... --out=..."
        )
    transform: Transform = latents.caption_drawer(config.max_length, with_ids)
    if not config.architecture.has_null_context:
        encoder = coders.text_encoder(text)
        encoded = encoder.encode([""])
        ids = None
        if with_ids:
            assert isinstance(encoder, StableDiffusionText)
            ids = encoder.token_ids([""])[0]
        kept = slice(None) if encoded.mask is None else np.asarray(encoded.mask[0])
        null = np.asarray(encoded.context[0])[kept]
        pooled = None
        if "pooled" in train[0][0]:
            pooled = np.asarray(encoded.pooled, np.float16)[0]
        share = config.diffusion.caption_dropout
        transform = in_turn(transform, latents.caption_dropout(null, share, pooled, ids))
    length = None if config.architecture.masks_padding else text["max_length"]
    if jax.process_count() > 1:  # all processes must pad alike
        length = text.get("max_length", config.max_length)
    factor = vae.downsampling_factor
    collate = functools.partial(latents.collate, length=length, cell=factor)
    held_out, left = [], config.validation_images
    for source in validation:
        examples = [
            latents.draw_caption(source[i], max_length=config.max_length, with_ids=with_ids)
            for i in range(min(left, len(source)))
        ]
        held_out += _batches(examples, config.batch_size, collate)
        left -= len(examples)
    return TrainingData(
        train[0] if len(train) == 1 else Buckets(train),
        transform,
        collate,
        held_out,
        latent_shape,
        manifest["context_dim"],
        vae.config.scaling,
        vae=vae.config.to_dict(),
        text_encoder=text,
        load_autoencoder=lambda: vae,
        default_size=latent_shape[0] * vae.downsampling_factor,
        preview=manifest.get("preview"),
        captions=tuple(manifest.get("held_out_captions", ())),
    )


def _shards(
    folder: Path, config: runs.DenoiserRunConfig, vae: str, text_encoder: str
) -> TrainingData:
    if config.train_text_encoder:
        raise ValueError("train_text_encoder needs data_dir of dg2 prepare, not latent shards")
    shards = LatentShards(folder)
    latent_shape, (length, context_dim) = shards[0]["mean"].shape, shards.null.shape
    starting.check_data(config, latent_shape, context_dim)
    count = len(shards) - config.validation_images
    if count < 1:
        raise ValueError(
            f"validation_images must be below the number of examples ({len(shards)}), "
            f"got {config.validation_images}"
        )
    transform = None
    if not config.architecture.has_null_context:
        transform = latents.caption_dropout(shards.null, config.diffusion.caption_dropout)
    collate = functools.partial(latents.collate, length=length)
    held_out = [shards[i] for i in range(count, len(shards))]
    name = text_encoder if text_encoder in ("clip", "minilm") else lasting_name(text_encoder)
    factor = diffusers_vae.published_config(vae).downsampling_factor
    return TrainingData(
        _First(shards, count),
        transform,
        collate,
        _batches(held_out, config.batch_size, collate),
        latent_shape,
        context_dim,
        Scaling(),
        vae={"pretrained": lasting_name(vae)},
        # The shards hold no masks, so networks trained on them attend to padding.
        text_encoder={"name": name, "max_length": length, "mask_padding": False},
        load_autoencoder=functools.partial(diffusers_vae.from_pretrained, vae),
        default_size=latent_shape[0] * factor,
    )


@dataclass(frozen=True)
class _First:
    """The first `count` examples of a source."""

    source: Source
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.source[index]


def _batches(
    examples: Sequence[Example], size: int, collate: Callable[[Sequence[Example]], Batch]
) -> list[Batch]:
    return [collate(examples[i : i + size]) for i in range(0, len(examples), size)]
