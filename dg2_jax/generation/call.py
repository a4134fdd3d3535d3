"""One call of a pipeline, by stages: plan, source, then text, sampling and pictures per batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dg2_jax.checks import ParameterError
from dg2_jax.controls import arguments
from dg2_jax.controls.model_facts import facts_of
from dg2_jax.diffusion import sampling
from dg2_jax.generation import drivers, editing, second_pass, text
from dg2_jax.generation import plan as planning
from dg2_jax.generation.drivers import Watcher
from dg2_jax.generation.editing import Edit
from dg2_jax.generation.inputs import Inputs, Source
from dg2_jax.generation.plan import Plan
from dg2_jax.generation.program import Weights
from dg2_jax.generation.second_pass import SecondPass
from dg2_jax.models import sources
from dg2_jax.models.adapters import Library
from dg2_jax.models.controlnets import ControlNets
from dg2_jax.models.folder import hash_of
from dg2_jax.models.model import Model
from dg2_jax.pictures import preview
from dg2_jax.pictures.image_input import ImageSource
from dg2_jax.pictures.upscaling import upscale
from dg2_jax.result import Result
from dg2_jax.settings import Settings
from dg2_jax.text import prompt_tags
from dg2_jax.text.interface import PromptEncoder
from dg2_jax.text.prompt_tags import LoraTag
from dg2_jax.text.wildcards import Wildcards
from dg2_jax.typing import Latent


class WeakerModels(dict[str, Model]):
    """The models for autoguidance by name or folder, each loaded on first use."""

    def __missing__(self, name: str) -> Model:
        self[name] = sources.load(name).model
        return self[name]


class Finished(NamedTuple):
    """The n images of a batch: uint8 (n, H, W, 3), and their latents (n, h, w, c)."""

    pictures: np.ndarray
    latents: np.ndarray


def plan_for(
    model: Model,
    settings: Settings,
    weaker: WeakerModels,
    edits: bool = False,
    controlnets: ControlNets | None = None,
) -> tuple[Plan, Weights]:
    """The plan of a call and the parameters it runs with.

    Args:
        model: the model.
        settings: of the call.
        weaker: loads the model for autoguidance.
        edits: whether a picture is edited.
        controlnets: where the ControlNet comes from; None: there may be none.

    Raises:
        ParameterError: the model for autoguidance or the ControlNet does not fit; or as
            `plan.make`.
    """
    worse = None if settings.autoguidance_model is None else weaker[settings.autoguidance_model]
    if worse is not None:
        facts_of(model).check(settings, facts_of(worse))
    control = None
    if settings.controlnet is not None:
        if controlnets is None:
            raise ParameterError("controlnet", "needs control_image, so a call of the pipeline")
        control = controlnets.get(settings.controlnet, model)
    to_rgb = preview.of_model(model.config, model.latent_channels)
    network = None if control is None else control.network
    plan = planning.make(model, settings, to_rgb, edits=edits, worse=worse, control=network)
    weights = Weights(
        model.params[settings.weights],
        None if worse is None else worse.params[settings.weights],
        model.autoencoder_params,
        None if control is None else control.params,
    )
    return plan, weights


@dataclass(frozen=True)
class Call:
    """A call before its first batch.

    Attributes:
        model: the model.
        text_encoder: its text encoder.
        plan: shared by all batches.
        weights: the parameters it runs with.
        edit: the picture to edit, if any.
        source: the latents where sampling starts.
        prompts: one per image.
        negative_prompts: one per image.
        seeds: one per image.
        library: of the adapters that prompts name.
        tags: those adapters, of each image.
        control_image: that a ControlNet follows: (1, H, W, 3) in [0, 1].
        second: the second pass; None without.
    """

    model: Model
    text_encoder: PromptEncoder
    plan: Plan
    weights: Weights
    edit: Edit | None
    source: Source
    prompts: list[str]
    negative_prompts: list[str]
    seeds: list[int]
    library: Library
    tags: list[tuple[LoraTag, ...]]
    control_image: np.ndarray | None = None
    second: SecondPass | None = None

    @property
    def num_steps(self) -> int:
        """Steps of both passes."""
        return self.plan.num_steps + (self.second.num_steps if self.second else 0)

    def step_of(self, rows_done: int) -> int:
        """The steps that are done after so many rows, one or more, of both passes."""
        first = self.plan.num_rows
        if self.second is None or rows_done <= first:
            return self.plan.step_of(rows_done)
        return self.plan.num_steps + self.second.plan.step_of(rows_done - first)

    @property
    def batches(self) -> list[list[int]]:
        """The indices of the images that are made together: those with the same adapters."""
        return planning.alike(self.tags)

    def finish(
        self,
        watch: Callable[[list[int]], Watcher | None] = lambda batch: None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Finished]:
        """Generates the images, batch by batch, until all are done or a watcher stops.

        Args:
            watch: maps the indices of a batch to its watcher.
            progress: called with (images done, images in total) after every batch.
        """
        finished: list[Finished] = []
        for batch in self.batches:
            images = self.run(batch, watch(batch))
            if images is None:
                break
            finished.append(images)
            if progress is not None:
                progress(sum(len(f.pictures) for f in finished), len(self.prompts))
        return finished

    def run(self, batch: list[int], watcher: Watcher | None = None) -> Finished | None:
        """Generates the images of a batch; None if the watcher stopped it."""
        tags = self.tags[batch[0]]
        model, encoder = self.library.applied(self.model, self.text_encoder, tags)
        plan, inputs = self.inputs(batch, encoder)
        weights = self.weights
        if tags:
            weights = weights._replace(denoiser=model.params[plan.settings.weights])
        latents, rows = drivers.generate(plan.program, weights, inputs, plan.num_rows, watcher)
        if rows == plan.num_rows and self.second is not None:
            watcher = watcher and watcher.after(rows)
            plan, inputs = self.second.inputs(inputs, latents)
            latents, rows = drivers.generate(plan.program, weights, inputs, plan.num_rows, watcher)
        if rows < plan.num_rows:
            return None
        real = len(set(batch))
        return self.decoded(latents, inputs, real)

    def result(self, finished: Sequence[Finished], indices: Sequence[int] | None = None) -> Result:
        """The result of the call from its finished batches.

        Args:
            finished: the batches, in their order.
            indices: of the images in them; None: of the call's first ones, and the call was stopped
                if there are not all.
        """
        plan = self.plan
        last = plan if self.second is None else self.second.plan
        size = last.size if self.edit is None else self.edit.size
        none = Finished(
            np.zeros((0, *size, 3), np.uint8), np.zeros((0, *last.latent_shape), np.float32)
        )
        pictures, latents = map(np.concatenate, zip(*(finished or [none]), strict=True))
        stopped = indices is None and len(pictures) < len(self.prompts)
        indices = range(len(pictures)) if indices is None else indices
        return Result(
            images=pictures,
            seeds=tuple(self.seeds[i] for i in indices),
            prompts=tuple(self.prompts[i] for i in indices),
            negative_prompts=tuple(self.negative_prompts[i] for i in indices),
            latents=latents,
            settings=plan.settings,
            model=self.model.name,
            model_hash=hash_of(self.model.config, plan.settings.weights),
            image_digest=self.edit.digest if self.edit else None,
            stopped=stopped,
        )

    def inputs(self, batch: list[int], encoder: PromptEncoder) -> tuple[Plan, Inputs]:
        """What the program takes of the images of a batch, and the plan it is for.

        Args:
            batch: indices of images.
            encoder: the text encoder, with the adapters of these images.
        """
        prompts, negatives = self.plan.program.task.texts(
            [self.prompts[i] for i in batch],
            [self.negative_prompts[i] for i in batch],
            self.plan.settings,
        )
        prompts = [prompt_tags.split(prompt)[0] for prompt in prompts]
        encoder = self.library.with_words(encoder, [*prompts, *negatives])
        texts, weights = text.compose(encoder, prompts, negatives, len(batch))
        plan = planning.with_null_text(self.plan) if weights.shape[1] > 1 else self.plan
        keys = sampling.image_keys(jnp.asarray([self.seeds[i] for i in batch], jnp.uint32))
        return plan, plan.inputs(self.source, texts, weights, keys, self.control_image)

    def decoded(self, latents: Latent, inputs: Inputs, count: int) -> Finished:
        """The first images of a batch from its sampled latents: decoded, pasted back, enlarged."""
        settings = self.plan.settings
        coder = self.model.autoencoder, self.model.autoencoder_params
        if settings.decoder == "taesd" and self.model.taesd is not None:
            coder = self.model.taesd, self.model.taesd_params
        pictures = np.asarray(self.plan.program.task.finish(latents, inputs, *coder))
        if self.edit is not None:
            pictures = editing.paste_back(pictures, self.edit, settings)
        if settings.upscale is not None:
            pictures = upscale(pictures, settings.upscaler, settings.upscale)
        return Finished(pictures[:count], np.asarray(latents)[:count])


class Asked(NamedTuple):
    """What a call asks for besides its settings; see `Pipeline.__call__`."""

    prompt: str | Sequence[str] | None = ""
    negative_prompt: str | Sequence[str] | None = ""
    num_images: int = 1
    seed: int | Sequence[int] | None = 0
    image: ImageSource | None = None
    mask: ImageSource | None = None
    control_image: ImageSource | None = None


def begin(
    model: Model,
    text_encoder: PromptEncoder,
    weaker: WeakerModels,
    settings: Settings,
    asked: Asked,
    library: Library | None = None,
    controlnets: ControlNets | None = None,
    lists: Wildcards | None = None,
) -> Call:
    """Checks everything that a call asks for, and brings its picture to where sampling starts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the parameter and what is allowed.
    """
    editing.check_control(asked.control_image is not None, settings)
    model = model.tiled if settings.vae_tiling else model
    controlnets = controlnets or ControlNets()
    plan, weights = plan_for(model, settings, weaker, asked.image is not None, controlnets)
    edit = editing.load(asked.image, asked.mask, plan)
    prompts, negatives = arguments.expand_prompts(
        text.call_prompt(asked.prompt, settings), asked.negative_prompt, asked.num_images
    )
    seeds = arguments.expand_seed(asked.seed, len(prompts))
    prompts, negatives = text.drawn(lists or Wildcards(), settings, prompts, negatives, seeds)
    text.check(settings, prompts, negatives, text_encoder)
    library = library or Library()
    tags = text.tags(library, settings, prompts, negatives)
    if settings.clip_skip:
        text_encoder = text_encoder.with_clip_skip(settings.clip_skip)
    source = editing.encode(model, plan, edit)
    if settings.inversion == "ddim" and plan.num_rows:
        shown = text.encode(text_encoder, [settings.source_prompt], [""])
        source = editing.invert(model, plan, source, weights, shown)
    second = None
    if settings.hires_size is not None:
        again = second_pass.settings_of(settings)
        larger, _ = plan_for(model, again, weaker, True, controlnets)
        second = second_pass.prepare(model, larger, asked.control_image)
    return Call(
        model,
        text_encoder,
        plan,
        weights,
        edit,
        source,
        prompts,
        negatives,
        seeds,
        library,
        tags,
        editing.load_control(asked.control_image, plan),
        second,
    )
