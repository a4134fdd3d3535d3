"""The arguments of a call besides its settings: prompts, seeds, previews; and all by name."""

import dataclasses
import functools
import inspect
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from dg2_jax.checks import ParameterError, check_int
from dg2_jax.controls import declaration
from dg2_jax.controls.declaration import Control, control
from dg2_jax.controls.values import Choice, Integer, Text
from dg2_jax.settings import MAX_IMAGES, MAX_SEED, MAX_STEPS, PROMPTED, Settings

PREVIEW_MODES = ("linear", "vae", "taesd")

Function = TypeVar("Function", bound=Callable)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a call takes besides its `Settings`."""

    prompt: str = control(
        "", Text(), "What to show; empty is the model's null text.", "prompt", kinds=PROMPTED
    )
    negative_prompt: str = control("", Text(), "What to move away from.", "prompt")
    num_images: int = control(1, Integer(1, MAX_IMAGES), "Images per prompt.", "sampling")
    seed: int | None = control(
        None,
        Integer(0, MAX_SEED),
        "Seed of the first image; image i has seed + i. None draws one.",
        "sampling",
        optional=True,
    )
    preview_every: int = control(
        5, Integer(1, MAX_STEPS), "Steps between previews.", "preview", advanced=True
    )
    preview_mode: str = control(
        "linear",
        Choice(PREVIEW_MODES),
        'How previews are drawn: "linear" costs nothing, "vae" is a full decoding each time, and '
        '"taesd" a quick one, with a model that has one.',
        "preview",
        advanced=True,
    )


ARGUMENTS = declaration.of(Arguments)


def declared() -> dict[str, Control]:
    """All controls by name: those of a call, then those of its images."""
    return {**ARGUMENTS, **declaration.of(Settings)}


def takes_settings(*groups: str) -> Callable[[Function], Function]:
    """Makes `**controls` of a method the controls of some groups, in its signature and its checks.

    The method raises ParameterError for any other name. Type checkers know the controls from
    `dg2_jax.controls.keywords`.

    Args:
        groups: of the controls of `Settings`; none for all of them.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            declaration.check_names(given, known, where)
            return function(*args, **given)

        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        names = {parameter.name for parameter in own}
        derived = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=entry.default, annotation=entry.python
            )
            for name, entry in declaration.of(Settings).items()
            if name not in names and (not groups or entry.group in groups)
        ]
        parameters = [*own, *derived]
        known = [parameter.name for parameter in parameters if parameter.name != "self"]
        where = function.__qualname__.removesuffix(".__call__")
        checked.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return cast(Function, checked)

    return decorate


def expand_prompts(
    prompt: str | Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None,
    num_images: int,
) -> tuple[list[str], list[str]]:
    """One prompt and one negative prompt per image, prompt by prompt; None is empty.

    Raises:
        ParameterError: naming the parameter and what is allowed.
    """
    prompt = "" if prompt is None else prompt
    negative_prompt = "" if negative_prompt is None else negative_prompt
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts or not all(isinstance(p, str) for p in prompts):
        raise ParameterError("prompt", "must be a text or a non-empty list of texts")
    if isinstance(negative_prompt, str):
        negatives = [negative_prompt] * len(prompts)
    else:
        negatives = list(negative_prompt)
    if len(negatives) != len(prompts) or not all(isinstance(p, str) for p in negatives):
        raise ParameterError("negative_prompt", "must be one text, or one text for each prompt")
    ARGUMENTS["num_images"].checked(num_images)
    if len(prompts) * num_images > MAX_IMAGES:
        raise ParameterError("num_images", f"times prompts must be at most {MAX_IMAGES}")
    return (
        [p for p in prompts for _ in range(num_images)],
        [p for p in negatives for _ in range(num_images)],
    )


def expand_seed(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """The seeds of `count` images: seed, seed + 1, …; drawn if None; or one given for each.

    Raises:
        ParameterError: a seed is not an integer from 0 to 2³² - 1, or there are not as many as
            images.
    """
    if isinstance(seed, Sequence) and not isinstance(seed, str):
        if len(seed) != count:
            problem = f"must be one integer, or one for each of the {count} images"
            raise ParameterError("seed", problem)
        return [ARGUMENTS["seed"].values.checked("seed", each) for each in seed]
    if seed is None:
        seed = secrets.randbelow(MAX_SEED + 1)
    check_int("seed", seed, 0, MAX_SEED)
    return [(int(seed) + i) % (MAX_SEED + 1) for i in range(count)]


def check_preview(every: int, mode: str) -> None:
    """Raises ParameterError unless these are values of `preview_every` and `preview_mode`."""
    ARGUMENTS["preview_every"].checked(every)
    ARGUMENTS["preview_mode"].checked(mode)
