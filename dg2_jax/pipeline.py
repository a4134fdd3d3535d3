"""Prompts in, pictures out: the object that most users touch.

>>> from dg2_jax import Pipeline                        # doctest: +SKIP
>>> pipe = Pipeline.load("demo")                        # doctest: +SKIP
>>> result = pipe("a volcano at sunset", num_images=4)  # doctest: +SKIP
>>> result.save("outputs")                              # doctest: +SKIP
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from dg2_jax import compile_cache as cache_lib
from dg2_jax import settings as settings_lib
from dg2_jax.checks import check_choice
from dg2_jax.controls import declaration
from dg2_jax.controls.arguments import takes_settings
from dg2_jax.controls.keywords import Controls, SamplerControls
from dg2_jax.generation import call, drivers, previews, slots, text
from dg2_jax.generation.devices import spread
from dg2_jax.generation.slots import Slots
from dg2_jax.models import adapters as adapter_lib
from dg2_jax.models import sources
from dg2_jax.models.adapters import Library
from dg2_jax.models.controlnets import ControlNets
from dg2_jax.models.interface import MASK
from dg2_jax.models.model import Model, Params
from dg2_jax.models.sources import SourceOptions
from dg2_jax.pictures import preview
from dg2_jax.pictures.image_input import ImageSource
from dg2_jax.result import Preview, Result
from dg2_jax.settings import SAMPLER_GROUPS
from dg2_jax.text.interface import PromptEncoder
from dg2_jax.text.wildcards import Wildcards
from dg2_jax.typing import Keys, Latent


class Pipeline:
    """A model with its text encoder, ready to be called."""

    def __init__(
        self,
        model: Model,
        text_encoder: PromptEncoder,
        *,
        preview_transport: str = "poll",
        adapters: Library | None = None,
        controlnets: ControlNets | None = None,
        wildcards: Wildcards | None = None,
    ):
        """Wraps a model; see `load` for the arguments."""
        check_choice("preview_transport", preview_transport, drivers.TRANSPORTS)
        self.model = model
        self.text_encoder = text_encoder
        self.preview_transport = preview_transport
        self.adapters = adapters or Library()
        self.controlnets = controlnets or ControlNets()
        self.wildcards = wildcards or Wildcards()
        self._weaker = call.WeakerModels()
        preview.of_model(model.config, model.latent_channels)  # raises if the map does not fit

    @classmethod
    def load(
        cls,
        model: str | Path = "demo",
        *,
        preview_transport: str = "poll",
        loras: str | Path | None = None,
        embeddings: str | Path | None = None,
        controlnets: str | Path | None = None,
        wildcards: str | Path | None = None,
        compile_cache: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> "Pipeline":
        """Loads a model: an embedded one by name, a model folder, or Stable Diffusion.

        Args:
            model: see `dg2_jax.models.sources`: also a diffusers folder, the hub id of one, or one
                `.safetensors` or `.ckpt` file under the original names.
            preview_transport: "poll" or "callback", see `dg2_jax.generation.drivers`.
            loras: a folder of LoRA files, which prompts then name: `<lora:name:0.8>`.
            embeddings: a folder of textual-inversion embeddings, whose names are then words.
            controlnets: a folder of ControlNets, which calls then name without it.
            wildcards: a folder of lists, one text per line, which prompts then name: `__season__`.
            compile_cache: whether compiled programs are kept on disk, see `dg2_jax.compile_cache`.
            on_progress: called with the bytes of Stable Diffusion's weights read so far and in all.
            options: fields of `dg2_jax.models.sources.SourceOptions`: what files of Stable
                Diffusion cannot tell, such as prediction_type="v_prediction".

        Raises:
            FileNotFoundError: no such model, or a file of it is missing.
            ValueError: a damaged or hostile file, or one of another kind of model; nothing in it
                was run.
        """
        if compile_cache:
            cache_lib.enable()
        declaration.check_names(options, SourceOptions.__annotations__, "Pipeline.load")
        known = sources.options_from(options) if options else None
        loaded = sources.load(model, known, on_progress)
        return cls(
            *loaded,
            preview_transport=preview_transport,
            adapters=Library(loras, embeddings),
            controlnets=ControlNets(controlnets),
            wildcards=Wildcards(wildcards),
        )

    def with_lora(self, path: str | Path, weight: float = 1.0) -> "Pipeline":
        """This pipeline with a LoRA file added; add others to the result.

        Args:
            path: a file that scripts.train wrote, or for Stable Diffusion one in kohya's or PEFT's
                layout.
            weight: 1 is as trained, 0 changes nothing; also above 1 and below 0.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or for another model, or the weight is not finite.
        """
        return self._with(*adapter_lib.adapted(self.model, self.text_encoder, path, weight))

    def quantized(self, dtype: str) -> "Pipeline":
        """This pipeline with the denoiser's weights in less memory: `dg2_jax.models.quantization`.

        Args:
            dtype: "bfloat16", "int8" or "float8_e4m3fn".

        Raises:
            ValueError: there is no such dtype, or it is quantized already.
        """
        from dg2_jax.models import quantization  # late: it imports qwix, which takes a second

        return self._with(quantization.quantized(self.model, dtype), self.text_encoder)

    def spread(self, devices: Sequence[Any]) -> "Pipeline":
        """This pipeline on devices that divide its batches, see `dg2_jax.generation.devices`."""
        return self._with(spread(self.model, devices), self.text_encoder)

    @takes_settings()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = "",
        negative_prompt: str | Sequence[str] | None = "",
        num_images: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: str | None = None,
        seed: int | Sequence[int] | None = 0,
        weights: str = "ema",
        *,
        image: ImageSource | None = None,
        mask: ImageSource | None = None,
        control_image: ImageSource | None = None,
        on_preview: Callable[[Preview], bool | None] | None = None,
        preview_every: int = 5,
        preview_mode: str = "linear",
        progress: Callable[[int, int], None] | bool | None = None,
        **controls: Unpack[Controls],
    ) -> Result:
        """Makes or edits pictures, prompt by prompt.

        Args:
            prompt: one text or several; empty, or `None`, is the model's null text. Left out with
                `anagram`. For its syntax see `dg2_jax.text.prompt_syntax` and `wildcards`.
            negative_prompt: what to move away from; one for all prompts or one each, or `None`.
            num_images: images per prompt; at most 256 in total.
            num_inference_steps: `None`, here and for the next two, uses the default for these
                weights (`sampling` in config.json, else that of `Settings`).
            guidance_scale: strength of the prompt; 1 is unguided.
            solver: one of `dg2_jax.diffusion.solvers.SOLVERS`.
            seed: of the first image, 0 to 2³² - 1; image i has seed + i, whatever the batch. A list
                names one per image; `None` draws one.
            weights: "ema", "raw", or, where the model has them, "fast": few unguided steps.
            image: a picture to start from (img2img): a path, a PIL image or uint8 (h, w, 3).
            mask: where `image` is repainted: white or 1 is free, black or 0 stays, and a value
                between is free for that last part of the steps.
            control_image: a picture that `controlnet` follows, such as edges or a pose.
            on_preview: is shown what the pictures look like so far, and may return True to stop.
            preview_every: steps between previews, at least 1.
            preview_mode: "linear" (free), "vae" (a full decoding each time), or "taesd" (a quick
                one, with a model that has a TAESD).
            progress: True shows a bar of the steps with rate and time left; or a function that
                is called with (images done, images in total) after every batch.
            controls: the other fields of `Settings`.

        Raises:
            ValueError: naming the parameter and what is allowed.
        """
        run = self.begin(
            prompt=prompt,
            negative_prompt=negative_prompt,
            num_images=num_images,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            solver=solver,
            seed=seed,
            weights=weights,
            image=image,
            mask=mask,
            control_image=control_image,
            **controls,
        )
        shown = on_preview, preview_every, preview_mode, self.preview_transport
        with previews.watching(run, *shown, progress) as watched:
            return run.result(run.finish(*watched))

    def begin(self, **arguments: Any) -> call.Call:
        """A call that is checked and has yet to run, for `dg2_jax.generation.slots.Slots`.

        Args:
            arguments: those of a call, but for previews and progress.

        Raises:
            ValueError: naming the parameter and what is allowed.
        """
        names = [name for name in call.Asked._fields if name in arguments]
        asked = call.Asked(**{name: arguments.pop(name) for name in names})
        settings = settings_lib.for_model(self.model, **arguments)
        parts = self.model, self.text_encoder, self._weaker
        return call.begin(*parts, settings, asked, self.adapters, self.controlnets, self.wildcards)

    def stream(
        self, requests: Sequence[Mapping[str, Any]], size: int = 16
    ) -> Iterator[tuple[int, Result]]:
        """Runs several calls together and gives each result as soon as it is there.

        Pictures share batches whatever their settings, each at a step of its own; see
        `dg2_jax.generation.slots`. They look as if made by calls of their own, but for rounding.

        >>> requests = [{"prompt": "a lake", "num_inference_steps": n} for n in (50, 4, 20)]
        >>> for number, result in pipe.stream(requests):   # doctest: +SKIP
        ...     result.save(f"lake-{requests[number]['num_inference_steps']}.png")

        Args:
            requests: the arguments of each call, but for previews and progress.
            size: of the batches: the most prompts and negative prompts that are evaluated at once;
                1, 2, 4, 8, 16 or 32.

        Returns:
            Pairs of the number of a request and its result, in the order in which they are made.

        Raises:
            ValueError: naming the parameter and what is allowed, before any picture is made.
        """
        calls = [self.begin(**request) for request in requests]
        return slots.stream(calls, self.slots(size))

    def slots(self, size: int = 16) -> Slots:
        """An empty set of slots, for calls from `begin`; raises ValueError as `Slots`."""
        return Slots(size)

    @takes_settings(*SAMPLER_GROUPS)
    def sampler(
        self,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: str | None = None,
        weights: str = "ema",
        **controls: Unpack[SamplerControls],
    ) -> Callable[[Params, text.TextInputs, Keys], Latent]:
        """A pure jitted function for programmatic use: `latents = f(params, text, keys)`.

        `params` is `pipe.model.params["ema"]` or any tree like it, `text` comes from `pipe.encode`,
        `keys` from `dg2_jax.diffusion.sampling.image_keys`. It is a `lax.scan`, so it can be
        differentiated, vmapped, sharded and exported. What is left out has the defaults for these
        weights.

        Raises:
            ParameterError: naming the parameter and what is allowed.
            ValueError: the model is an in-painting one, which needs a picture.
        """
        settings = settings_lib.for_model(
            self.model, weights, num_inference_steps, guidance_scale, solver, **controls
        )
        if MASK in self.model.abilities:
            raise ValueError(
                f"{self.model.name} is an in-painting model: call the pipeline instead"
            )
        plan, params = call.plan_for(self.model, settings, self._weaker)
        return drivers.sampler(plan, params.worse)

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str]) -> text.TextInputs:
        """Encodes one prompt and one negative prompt per image, syntax as in `prompt_syntax`.

        Raises:
            ParameterError: a prompt's syntax is wrong, or it joins several by AND.
        """
        return text.encode(self.text_encoder, prompts, negative_prompts)

    def _with(self, model: Model, text_encoder: PromptEncoder) -> "Pipeline":
        return Pipeline(
            model,
            text_encoder,
            preview_transport=self.preview_transport,
            adapters=self.adapters,
            controlnets=self.controlnets,
            wildcards=self.wildcards,
        )
