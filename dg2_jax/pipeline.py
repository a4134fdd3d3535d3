"""Prompts in, pictures out: the object that most users touch.

>>> from dg2_jax import Pipeline                        # doctest: +SKIP
>>> pipe = Pipeline.load("demo")                        # doctest: +SKIP
>>> result = pipe("a volcano at sunset", num_images=4)  # doctest: +SKIP
>>> result.save("outputs")                              # doctest: +SKIP
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dg2_jax import guidance, images, sampling, schedules, solvers
from dg2_jax import model as model_lib
from dg2_jax.model import Model, Params
from dg2_jax.settings import MAX_STEPS, Settings, expand_prompts, expand_seed
from dg2_jax.solvers import SolverTable
from dg2_jax.text import TextEncoder, load_text_encoder
from dg2_jax.typing import Context, ContextMask, Keys, Latent

BATCH_SIZES = (1, 2, 4, 8, 16)  # compiled batch sizes; other numbers are split and padded
_TABLE_ROWS = 2 * MAX_STEPS  # Heun needs two rows a step


@dataclasses.dataclass(frozen=True)
class Result:
    """What a call made; image i is reproduced alone by its own prompt and `seeds[i]`.

    Attributes:
        images: uint8 (n, h, w, 3).
        seeds: one an image.
        prompts: one an image.
        negative_prompts: one an image.
        latents: float32 (n, h/f, w/f, c), scaled.
        settings: how they were made.
        model: the model's name.
    """

    images: np.ndarray
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    latents: np.ndarray
    settings: Settings
    model: str

    def metadata(self, index: int) -> dict[str, Any]:
        """Everything needed to make image `index` again, as plain data."""
        return {
            "prompt": self.prompts[index],
            "negative_prompt": self.negative_prompts[index],
            "seed": self.seeds[index],
            "width": self.images.shape[2],
            "height": self.images.shape[1],
            "model": self.model,
            **dataclasses.asdict(self.settings),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Writes a PNG an image, its settings inside; no file is overwritten. Returns the paths."""
        return [
            images.save_numbered(folder, picture, self.metadata(i))
            for i, picture in enumerate(self.images)
        ]


class TextInputs(NamedTuple):
    """The two texts of each image, encoded; where `is_null`, the model's own null text is used."""

    context: Context
    mask: ContextMask
    is_null: Bool[Array, "b"]
    negative_context: Context
    negative_mask: ContextMask
    negative_is_null: Bool[Array, "b"]


class _Inputs(NamedTuple):
    """What the compiled program is called with; no new value of any of it compiles anew."""

    text: TextInputs
    table: SolverTable
    num_rows: Int[Array, ""]
    keys: Keys
    guidance_scale: Float[Array, "b"]
    guidance_rescale: Float[Array, "b"]
    guidance_interval: Float[Array, "2"]


@dataclasses.dataclass(frozen=True)
class _Program:
    """The static part of a compiled program."""

    denoiser: nnx.GraphDef
    prediction_type: str
    latent_shape: tuple[int, int, int]
    guidance: str  # "off", "always" or "interval"

    def prepare(self, params: Params, inputs: _Inputs) -> tuple[guidance.Denoiser, Any]:
        """The guided denoiser and its conditioning, the text's keys and values computed."""
        module = nnx.merge(self.denoiser, params)
        text = inputs.text

        def project(context: Context, mask: ContextMask, is_null: Bool[Array, "b"]) -> Any:
            if hasattr(module, "null_context"):
                null, null_mask = module.null_context(*mask.shape)
                context = jnp.where(is_null[:, None, None], null, context)
                mask = jnp.where(is_null[:, None], null_mask, mask)
            return module.project_context(context, mask)

        denoise = guidance.denoiser(module, self.prediction_type)
        conditional = project(text.context, text.mask, text.is_null)
        if self.guidance == "off":
            return denoise, conditional
        negative = project(text.negative_context, text.negative_mask, text.negative_is_null)
        guided = guidance.classifier_free(denoise, inputs.guidance_scale, inputs.guidance_rescale)
        if self.guidance == "interval":
            low, high = inputs.guidance_interval
            guided = guidance.within_interval(guided, denoise, (low, high))
        return guided, guidance.pair(conditional, negative)


@functools.partial(jax.jit, static_argnums=0)
def _generate(program: _Program, params: Params, inputs: _Inputs) -> Latent:
    """Latents of a batch; one compilation serves every prompt, seed, step count and solver."""
    denoise, conditioning = program.prepare(params, inputs)
    x = sampling.initial_noise(inputs.keys, program.latent_shape)
    latents, _ = sampling.sample_interruptible(
        denoise, conditioning, x, inputs.table, inputs.keys, inputs.num_rows
    )
    return latents


@functools.partial(jax.jit, static_argnums=0)
def _decode(autoencoder: nnx.GraphDef, params: Params, latents: Latent) -> Array:
    """Scaled latents to uint8 pixels."""
    vae = nnx.merge(autoencoder, params)
    pixels = vae.decode(vae.unscale(latents))
    return jnp.round(jnp.clip((pixels + 1.0) * 127.5, 0.0, 255.0)).astype(jnp.uint8)


class Pipeline:
    """A model with its text encoder, ready to be called."""

    def __init__(self, model: Model, text_encoder: TextEncoder):
        self.model = model
        self.text_encoder = text_encoder

    @classmethod
    def load(cls, model: str | Path = "demo") -> "Pipeline":
        """Loads an embedded model by name or a model folder by path.

        Raises:
            FileNotFoundError: no such model, or a file of it is missing.
            dg2_jax.model.ModelError: a damaged file, or one that does not fit.
        """
        loaded = model_lib.load(model)
        encoder = loaded.config["text_encoder"]
        return cls(loaded, load_text_encoder(encoder["name"], encoder.get("max_length")))

    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] = "",
        num_images: int = 1,
        num_inference_steps: int = 20,
        guidance_scale: float = 5.0,
        solver: str = "dpmpp_2m",
        seed: int | None = 0,
        weights: str = "ema",
        *,
        eta: float = 0.0,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
        spacing: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Makes pictures.

        Args:
            prompt: one text or several; an empty text is the model's null text.
            negative_prompt: what to move away from; one for all prompts or one each.
            num_images: pictures a prompt, 1 to 256 in all.
            num_inference_steps: see `Settings`, as for the parameters not listed here.
            guidance_scale: strength of the prompt; 1 is unguided.
            solver: one of `dg2_jax.solvers.SOLVERS`.
            seed: of the first image, 0 to 2³² - 1; image i has seed + i, whatever the batch. None
                draws one.
            weights: "ema" or "raw".
            eta: DDIM's noise.
            guidance_rescale: see `Settings`.
            guidance_interval: see `Settings`.
            spacing: see `Settings`.
            progress: called with (images done, images in all) after every batch.

        Returns:
            The pictures, prompt by prompt.

        Raises:
            ValueError: naming the parameter and what is allowed.
        """
        settings = Settings(
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            solver=solver,
            eta=eta,
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
            spacing=spacing,
            weights=weights,
        )
        prompts, negatives = expand_prompts(prompt, negative_prompt, num_images)
        seeds = expand_seed(seed, len(prompts))
        table = self._table(settings)
        latents, pictures = [], []
        for batch in _batches(len(prompts)):
            latent = self._latents(
                [prompts[i] for i in batch],
                [negatives[i] for i in batch],
                [seeds[i] for i in batch],
                settings,
                table,
            )
            picture = _decode(self.model.autoencoder, self.model.autoencoder_params, latent)
            real = len(set(batch))
            latents.append(np.asarray(latent)[:real])
            pictures.append(np.asarray(picture)[:real])
            if progress is not None:
                progress(sum(map(len, pictures)), len(prompts))
        return Result(
            images=np.concatenate(pictures),
            seeds=tuple(seeds),
            prompts=tuple(prompts),
            negative_prompts=tuple(negatives),
            latents=np.concatenate(latents),
            settings=settings,
            model=self.model.name,
        )

    def sampler(
        self,
        num_inference_steps: int = 20,
        guidance_scale: float = 5.0,
        solver: str = "dpmpp_2m",
        *,
        eta: float = 0.0,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
        spacing: str | None = None,
    ) -> Callable[[Params, TextInputs, Keys], Latent]:
        """A pure jitted function for programmatic use: `latents = f(params, text, keys)`.

        `params` is `pipe.model.params["ema"]` or any tree like it, `text` comes from
        `pipe.encode`, `keys` from `dg2_jax.sampling.image_keys`. It is a `lax.scan`, so it can be
        differentiated, vmapped, sharded and exported.
        """
        settings = Settings(
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            solver=solver,
            eta=eta,
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
            spacing=spacing,
        )
        table = self._table(settings)
        program = self._program(settings)

        @jax.jit
        def sample(params: Params, text: TextInputs, keys: Keys) -> Latent:
            inputs = _inputs(text, table, keys, settings)
            denoise, conditioning = program.prepare(params, inputs)
            x = sampling.initial_noise(keys, program.latent_shape)
            return sampling.sample(denoise, conditioning, x, table, keys)

        return sample

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str]) -> TextInputs:
        """Encodes one prompt and one negative prompt an image."""
        texts = list(dict.fromkeys([*prompts, *negative_prompts]))
        encoding = self.text_encoder.encode(texts)
        where = {text: i for i, text in enumerate(texts)}
        c = np.array([where[p] for p in prompts])
        u = np.array([where[p] for p in negative_prompts])

        def is_null(texts: Sequence[str]) -> np.ndarray:
            return np.array([not text.strip() for text in texts])

        context, mask = np.asarray(encoding.context), np.asarray(encoding.mask)
        return TextInputs(
            *map(jnp.asarray, (context[c], mask[c], is_null(prompts))),
            *map(jnp.asarray, (context[u], mask[u], is_null(negative_prompts))),
        )

    def _table(self, settings: Settings) -> SolverTable:
        schedule = self.model.schedule
        spacing = settings.spacing or schedules.default_spacing(schedule)
        t = schedules.timesteps(settings.num_inference_steps, schedule.num_train_timesteps, spacing)
        return solvers.make_table(settings.solver, schedule, t, settings.eta)

    def _program(self, settings: Settings) -> _Program:
        side = self.model.default_size // self.model.autoencoder_config.downsampling_factor
        mode = "off" if settings.guidance_scale == 1.0 else "always"
        if mode == "always" and settings.guidance_interval is not None:
            mode = "interval"
        return _Program(
            self.model.denoiser,
            self.model.prediction_type,
            (side, side, self.model.latent_channels),
            mode,
        )

    def _latents(
        self,
        prompts: Sequence[str],
        negatives: Sequence[str],
        seeds: Sequence[int],
        settings: Settings,
        table: SolverTable,
    ) -> Latent:
        keys = sampling.image_keys(jnp.asarray(seeds, jnp.uint32))
        text = self.encode(prompts, negatives)
        inputs = _inputs(text, table.padded(_TABLE_ROWS), keys, settings)
        inputs = inputs._replace(num_rows=jnp.int32(len(table.timestep)))
        return _generate(self._program(settings), self.model.params[settings.weights], inputs)


def _inputs(text: TextInputs, table: SolverTable, keys: Keys, settings: Settings) -> _Inputs:
    batch = keys.shape[0]
    return _Inputs(
        text=text,
        table=table,
        num_rows=jnp.int32(len(table.timestep)),
        keys=keys,
        guidance_scale=jnp.full(batch, settings.guidance_scale, jnp.float32),
        guidance_rescale=jnp.full(batch, settings.guidance_rescale, jnp.float32),
        guidance_interval=jnp.asarray(settings.guidance_interval or (0.0, 1.0), jnp.float32),
    )


def _batches(count: int) -> list[list[int]]:
    """Indices 0 … count-1 in batches of compiled sizes; the last one repeats its last index."""
    batches = []
    largest = BATCH_SIZES[-1]
    for start in range(0, count, largest):
        batch = list(range(start, min(start + largest, count)))
        size = next(s for s in BATCH_SIZES if s >= len(batch))
        batches.append(batch + batch[-1:] * (size - len(batch)))
    return batches
