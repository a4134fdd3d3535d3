"""Prompts in, pictures out: the object that most users touch.

>>> from dg2_jax import Pipeline                        # doctest: +SKIP
>>> pipe = Pipeline.load("demo")                        # doctest: +SKIP
>>> result = pipe("a volcano at sunset", num_images=4)  # doctest: +SKIP
>>> result.save("outputs")                              # doctest: +SKIP
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax import settings as settings_lib
from dg2_jax.call import check_names, check_preview, expand_prompts, expand_seed, takes_settings
from dg2_jax.diffusion import sampling, views
from dg2_jax.diffusion.solvers import SolverTable
from dg2_jax.generation import editing, program
from dg2_jax.generation import plan as planning
from dg2_jax.generation.editing import Edit
from dg2_jax.generation.plan import Plan
from dg2_jax.generation.program import Inputs, TextInputs
from dg2_jax.model_facts import facts_of
from dg2_jax.models import folder as model_lib
from dg2_jax.models import lora
from dg2_jax.models.folder import Model, Params
from dg2_jax.pictures import preview
from dg2_jax.pictures.image_input import ImageSource
from dg2_jax.pictures.upscaling import upscale
from dg2_jax.result import Preview, Result
from dg2_jax.settings import BATCH_SIZES, SAMPLER_GROUPS, Settings
from dg2_jax.text import encoder, prompt_syntax
from dg2_jax.text.encoder import TextEncoder
from dg2_jax.text.prompt_syntax import SubPrompt
from dg2_jax.typing import Keys, Latent


class Pipeline:
    """A model with its text encoder, ready to be called."""

    def __init__(self, model: Model, text_encoder: TextEncoder):
        self.model = model
        self.text_encoder = text_encoder
        self._others: dict[str, Model] = {}
        self._to_rgb = preview.of_model(model.config, model.latent_channels)

    @classmethod
    def load(cls, model: str | Path = "demo") -> "Pipeline":
        """Loads an embedded model by name or a model folder by path.

        Raises:
            FileNotFoundError: no such model, or a file of it is missing.
            dg2_jax.models.folder.ModelError: a damaged file, or one that does not fit.
        """
        loaded = model_lib.load(model)
        return cls(loaded, encoder.from_config(loaded.config["text_encoder"]))

    def with_lora(self, path: str | Path, weight: float = 1.0) -> "Pipeline":
        """This pipeline with an adapter of `dg2_jax.models.lora` added; add others to the result.

        Args:
            path: a file that scripts.train wrote.
            weight: 1 is as trained, 0 changes nothing; also above 1 and below 0.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or for another model, or the weight is not finite.
        """
        return Pipeline(lora.adapted(self.model, path, weight), self.text_encoder)

    def quantized(self, dtype: str) -> "Pipeline":
        """This pipeline with the denoiser's weights in less memory: `dg2_jax.models.quantization`.

        Args:
            dtype: "bfloat16", "int8" or "float8_e4m3fn".

        Raises:
            ValueError: there is no such dtype, or it is quantized already.
        """
        # qwix takes a second to import, and few need it.
        from dg2_jax.models.quantization import quantized

        return Pipeline(quantized(self.model, dtype), self.text_encoder)

    @takes_settings()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        num_images: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: str | None = None,
        seed: int | Sequence[int] | None = 0,
        weights: str = "ema",
        *,
        image: ImageSource | None = None,
        mask: ImageSource | None = None,
        on_preview: Callable[[Preview], bool | None] | None = None,
        preview_every: int = 5,
        preview_mode: str = "linear",
        progress: Callable[[int, int], None] | None = None,
        **controls: Any,
    ) -> Result:
        """Makes or edits pictures.

        Args:
            prompt: one text or several; an empty text is the model's null text. Left out with
                `anagram`.
            negative_prompt: what to move away from; one for all prompts or one each.
            num_images: pictures a prompt, 1 to 256 in all.
            num_inference_steps: see `Settings`, as for the parameters not listed here. None, here
                and for the next two, is what the weights want: 20, 5 and "dpmpp_2m" unless the
                model's config.json says otherwise.
            guidance_scale: strength of the prompt; 1 is unguided.
            solver: one of `dg2_jax.diffusion.solvers.SOLVERS`.
            seed: of the first image, 0 to 2³² - 1; image i has seed + i, whatever the batch. A list
                names one for each image; None draws one.
            weights: "ema", "raw", or, where the model has them, "fast": few unguided steps.
            image: a picture to start from (img2img): a path, a PIL image or uint8 (h, w, 3).
            mask: where `image` is repainted: white or 1 is free, black or 0 stays, and what lies
                between is free for that last part of the way.
            on_preview: is shown what the pictures look like so far, and may return True to stop.
            preview_every: steps between previews, at least 1.
            preview_mode: "linear" (free) or "vae" (a full decoding each time).
            progress: called with (images done, images in all) after every batch.
            controls: the other fields of `Settings`.

        Returns:
            The pictures, prompt by prompt.

        Raises:
            ValueError: naming the parameter and what is allowed.
        """
        check_names(self.__call__, list(controls))
        settings = settings_lib.for_model(
            self.model,
            weights,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            solver=solver,
            **controls,
        )
        check_preview(preview_every, preview_mode)
        edit = editing.prepare(
            image, mask, settings, self.model.default_size, self.model.autoencoder_config
        )
        if settings.anagram is not None:
            if prompt != "":
                raise ValueError("prompt must be left out with anagram, which has its own prompts")
            prompt = " | ".join(text for text, _ in settings.anagram)
        prompts, negatives = expand_prompts(prompt, negative_prompt, num_images)
        seeds = expand_seed(seed, len(prompts))
        plan = self._plan(settings, edit)
        latents: list[np.ndarray] = []
        pictures: list[np.ndarray] = []
        stopped = False
        for batch in _batches(len(prompts)):
            real = len(set(batch))
            texts, prompt_weights = self._texts(
                plan, [prompts[i] for i in batch], [negatives[i] for i in batch]
            )
            if prompt_weights.shape[1] > 1:
                plan = planning.with_null_text(plan)
            keys = sampling.image_keys(jnp.asarray([seeds[i] for i in batch], jnp.uint32))
            inputs = self._inputs(plan, texts, keys, prompt_weights)
            found, rows = program.generate(
                plan.program,
                self._params(settings),
                self.model.autoencoder_params if plan.program.autoencoder else None,
                inputs,
                plan.num_rows,
                every=preview_every * max(1, round(plan.num_rows / settings.num_inference_steps)),
                watch=self._watch(on_preview, preview_mode, plan, batch[0], real),
            )
            stopped = rows < plan.num_rows
            if stopped:
                break
            latents.append(np.asarray(found)[:real])
            pictures.append(self._finish(plan, found, inputs, edit)[:real])
            if progress is not None:
                progress(sum(map(len, pictures)), len(prompts))
        count = sum(map(len, pictures))
        empty = np.zeros((0, self.model.default_size, self.model.default_size, 3), np.uint8)
        return Result(
            images=np.concatenate(pictures) if pictures else empty,
            seeds=tuple(seeds[:count]),
            prompts=tuple(prompts[:count]),
            negative_prompts=tuple(negatives[:count]),
            latents=np.concatenate(latents) if latents else np.zeros((0, *self.model.latent_shape)),
            settings=settings,
            model=self.model.name,
            image=edit.digest if edit else None,
            stopped=stopped,
        )

    @takes_settings(*SAMPLER_GROUPS)
    def sampler(
        self,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: str | None = None,
        weights: str = "ema",
        **controls: Any,
    ) -> Callable[[Params, TextInputs, Keys], Latent]:
        """A pure jitted function for programmatic use: `latents = f(params, text, keys)`.

        `params` is `pipe.model.params["ema"]` or any tree like it, `text` comes from
        `pipe.encode`, `keys` from `dg2_jax.diffusion.sampling.image_keys`. It is a `lax.scan`, so
        it can be differentiated, vmapped, sharded and exported. What is left out has the
        defaults of these weights.

        Raises:
            ValueError: naming the parameter and what is allowed.
        """
        check_names(self.sampler, list(controls))
        settings = settings_lib.for_model(
            self.model,
            weights,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            solver=solver,
            **controls,
        )
        plan = self._plan(settings, None)
        table = SolverTable(*(column[: plan.num_rows] for column in plan.table))
        worse = self._params(settings)[1]

        @jax.jit
        def sample(params: Params, text: TextInputs, keys: Keys) -> Latent:
            inputs = self._inputs(plan, text, keys)
            denoise = program.guided(plan.program, (params, worse), inputs)
            conditioning = program.conditioning(plan.program, (params, worse), text)
            x = sampling.initial_noise(keys, self.model.latent_shape)
            return sampling.sample(denoise, conditioning, x, table, keys)

        return sample

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str]) -> TextInputs:
        """Encodes one prompt and one negative prompt an image, syntax as in `prompt_syntax`.

        Raises:
            ValueError: a prompt's syntax is wrong, or it joins several by AND (which a call does
                itself).
        """
        parsed = [prompt_syntax.parse(prompt) for prompt in prompts]
        if any(len(parts) > 1 for parts in parsed):
            raise ValueError("prompt must not hold AND here")
        return self._encode([parts[0] for parts in parsed], _negative(negative_prompts))

    def _encode(self, prompts: Sequence[SubPrompt], negatives: Sequence[SubPrompt]) -> TextInputs:
        unique = list(dict.fromkeys([*prompts, *negatives]))
        texts = [part.text for part in unique]
        encoding = self.text_encoder.encode(texts)
        context, mask = encoding.context, encoding.mask
        if any(part.spans for part in unique):
            offsets = self.text_encoder.offsets(texts)
            pairs = zip(offsets, unique, strict=True)
            weights = np.stack([prompt_syntax.token_weights(at, p.spans) for at, p in pairs])
            context = prompt_syntax.apply_weights(context, jnp.asarray(weights), mask)
        tokens, real = np.asarray(context), np.asarray(mask)
        where = {part: i for i, part in enumerate(unique)}

        def select(parts: Sequence[SubPrompt]) -> tuple[Any, Any, Any]:
            at = np.array([where[part] for part in parts])
            is_null = np.array([not part.text.strip() for part in parts])
            return jax.device_put((tokens[at], real[at], is_null))

        return TextInputs(*select(prompts), *select(negatives))

    def _worse(self, settings: Settings) -> Model:
        """The model of autoguidance, loaded once."""
        name = str(settings.autoguidance_model)
        if name not in self._others:
            other = model_lib.load(name)
            if (other.latent_channels, other.prediction_type) != (
                self.model.latent_channels,
                self.model.prediction_type,
            ):
                raise ValueError(
                    f"autoguidance_model must have {self.model.latent_channels} latent channels "
                    f"and predict {self.model.prediction_type}, as {self.model.name} does"
                )
            self._others[name] = other
        return self._others[name]

    def _params(self, settings: Settings) -> tuple[Params, Params | None]:
        own = self.model.params[settings.weights]
        if settings.autoguidance_model is None:
            return own, None
        worse = self._worse(settings)
        facts_of(self.model).check(settings, facts_of(worse))
        return own, worse.params[settings.weights]

    def _plan(self, settings: Settings, edit: Edit | None) -> Plan:
        worse = self._worse(settings) if settings.autoguidance_model else None
        plan = planning.make(self.model, settings, edit, worse)
        if settings.inversion != "ddim" or (way := planning.backwards(self.model, plan)) is None:
            return plan
        texts = self.encode([settings.source_prompt], [""])
        inputs = self._inputs(way, texts, sampling.image_keys(jnp.zeros(1, jnp.uint32)))
        params = self._params(way.settings)
        noise, _ = program.generate(way.program, params, None, inputs, way.num_rows)
        return plan._replace(start=np.asarray(noise), start_alpha=1.0, start_sigma=0.0)

    def _texts(
        self, plan: Plan, prompts: Sequence[str], negatives: Sequence[str]
    ) -> tuple[TextInputs, np.ndarray]:
        """The texts of a batch in the order that the program's kind wants, and their weights.

        The weights (b, p) are those of the p prompts an image that AND joins; where an image has
        fewer than another, null texts of weight 0 fill up.
        """
        settings, count = plan.settings, len(prompts)
        if settings.anagram is not None:
            prompts = [text for text, _ in settings.anagram for _ in prompts]
            negatives = [*negatives] * len(settings.anagram)
        elif plan.program.kind == "following":
            # The sources are not guided: both of their texts are the source's.
            source = [settings.source_prompt] * count
            prompts, negatives = [*prompts, *source], [*negatives, *source]
        parsed = [prompt_syntax.parse(prompt) for prompt in prompts]
        most = max(map(len, parsed))
        if most > 1 and len(parsed) > count:
            raise ValueError("prompt cannot hold AND with anagram or inversion 'ddpm'")
        filled = [[*parts, *[SubPrompt("", 0.0)] * (most - len(parts))] for parts in parsed]
        texts = self._encode(
            [parts[i] for i in range(most) for parts in filled], _negative(negatives)
        )
        weights = [[part.weight for part in parts] for parts in filled[:count]]
        return texts, np.asarray(weights, np.float32)

    def _inputs(
        self,
        plan: Plan,
        texts: TextInputs,
        keys: Keys,
        prompt_weights: np.ndarray | None = None,
    ) -> Inputs:
        # NumPy's arrays, put on the device as they are: an operation of jnp would be a program of
        # its own to compile, and a first picture would wait for some twenty of them.
        batch, settings = keys.shape[0], plan.settings
        side = self.model.default_size
        if plan.program.kind != "synchronised":
            side = self.model.latent_shape[0]
        interval = settings.guidance_interval or (0.0, 1.0)
        threshold = settings.apg_norm_threshold or float("inf")
        put = jax.device_put

        def each(value: float) -> Any:
            return put(np.full(batch, value, np.float32))

        return Inputs(
            text=texts,
            table=plan.table,
            keys=keys,
            guidance_scale=each(settings.guidance_scale),
            guidance_rescale=each(settings.guidance_rescale),
            guidance_interval=put(np.asarray(interval, np.float32)),
            eta_parallel=each(settings.apg_eta),
            norm_threshold=each(threshold),
            momentum=each(settings.apg_momentum),
            prompt_weights=put(
                np.ones((batch, 1), np.float32) if prompt_weights is None else prompt_weights
            ),
            autoguidance_scale=each(settings.autoguidance_scale),
            reuse_every=put(np.int32(settings.reuse_every)),
            start=put(np.repeat(plan.start, batch, 0)),
            start_alpha=put(np.float32(plan.start_alpha)),
            start_sigma=put(np.float32(plan.start_sigma)),
            original=put(np.repeat(plan.original, batch, 0)),
            change=put(np.repeat(plan.change[None, :, :, None], batch, 0)),
            first_timestep=put(np.int32(plan.table.timestep[0])),
            views=_stack_views(settings.anagram, side, self.model.latent_shape[0]),
            corrected=put(np.bool_(settings.anagram_mode == "corrected")),
            to_rgb=self._to_rgb,
        )

    def _watch(
        self,
        on_preview: Callable[[Preview], bool | None] | None,
        preview_mode: str,
        plan: Plan,
        first: int,
        real: int,
    ) -> Callable[[int, program.Run], bool] | None:
        """What `program.generate` calls to hand previews on; None where nobody watches."""
        if on_preview is None:
            return None
        steps = plan.settings.num_inference_steps
        steps = min(steps, plan.num_rows) if plan.num_rows else steps

        def draw(run: program.Run) -> np.ndarray:
            if preview_mode == "linear":
                return np.asarray(run.shown)[:real]
            coder = self.model.autoencoder, self.model.autoencoder_params
            return np.asarray(program.decode(*coder, run.progress.x0[: len(run.shown)]))[:real]

        def watch(rows_done: int, run: program.Run) -> bool:
            step = -(-rows_done * steps // plan.num_rows)
            return bool(on_preview(Preview(step, steps, first, lambda: draw(run))))

        return watch

    def _finish(self, plan: Plan, latents: Latent, inputs: Inputs, edit: Edit | None) -> np.ndarray:
        """Latents to finished pictures: decoded, pasted back, enlarged."""
        coder = self.model.autoencoder, self.model.autoencoder_params
        if plan.program.kind == "synchronised":
            pictures = np.asarray(program.decode_views(*coder, latents, inputs.views))
        else:
            pictures = np.asarray(program.decode(*coder, latents))
        if edit is not None:
            pictures = editing.finish(pictures, edit, plan.settings)
        if plan.settings.upscale is not None:
            pictures = upscale(pictures, plan.settings.upscaler, plan.settings.upscale)
        return pictures


def _negative(prompts: Sequence[str]) -> list[SubPrompt]:
    parsed = [prompt_syntax.parse(prompt, "negative_prompt") for prompt in prompts]
    if any(len(parts) > 1 for parts in parsed):
        raise ValueError("negative_prompt must not hold AND")
    return [parts[0] for parts in parsed]


def _stack_views(
    anagram: Sequence[tuple[str, str]] | None, side: int, cells: int
) -> views.ViewMap | None:
    if anagram is None:
        return None
    made = [views.make(view, side, cells=cells) for _, view in anagram]
    return views.ViewMap(*(jnp.stack(leaves) for leaves in zip(*made, strict=True)))


def _batches(count: int) -> list[list[int]]:
    """Indices 0 … count-1 in batches of compiled sizes; the last one repeats its last index."""
    batches = []
    largest = BATCH_SIZES[-1]
    for start in range(0, count, largest):
        batch = list(range(start, min(start + largest, count)))
        size = next(s for s in BATCH_SIZES if s >= len(batch))
        batches.append(batch + batch[-1:] * (size - len(batch)))
    return batches
