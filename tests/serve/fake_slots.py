"""The slots of a fake pipeline: what the server sees of `dg2_jax.generation.slots`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dg2_jax.controls.arguments import expand_prompts, expand_seed
from dg2_jax.result import Preview, Result
from dg2_jax.settings import Settings


@dataclass(eq=False)
class FakeCall:
    """A call that was begun."""

    pipe: Any
    settings: Settings
    prompts: list[str]
    negative_prompts: list[str]
    seeds: list[int]
    given: dict[str, Any]


def begin(pipe: Any, arguments: dict[str, Any]) -> FakeCall:
    """What `Pipeline.begin` does."""
    given = dict(arguments)
    names = ("prompt", "negative_prompt", "num_images")
    texts = [given.pop(name, default) for name, default in zip(names, ("", "", 1), strict=True)]
    prompts, negatives = expand_prompts(*texts)
    seeds = expand_seed(given.pop("seed", 0), len(prompts))
    prompts = [pipe.wildcards.drawn(p, s) for p, s in zip(prompts, seeds, strict=True)]
    pictures = {name: given.pop(name, None) for name in ("image", "mask", "control_image")}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    pipe.trouble(prompts, begins=True)
    return FakeCall(pipe, settings, prompts, negatives, seeds, {**given, **pictures})


@dataclass(eq=False)
class FakePicture:
    """One picture under way; each step of its solver is a row."""

    call: FakeCall
    index: int
    rows_done: int = 0
    look_every: int | None = None

    @property
    def num_steps(self) -> int:
        return self.call.settings.num_inference_steps

    @property
    def step(self) -> int:
        return self.rows_done

    @property
    def is_to_be_seen(self) -> bool:
        return self.look_every is not None and self.rows_done % self.look_every == 0

    @property
    def prompt(self) -> str:
        return self.call.prompts[self.index]

    @property
    def branches(self) -> int:
        return 1 if self.call.settings.guidance_scale == 1.0 else 2

    def result(self) -> Result:
        call, i = self.call, slice(self.index, self.index + 1)
        texts = call.prompts[i], call.negative_prompts[i], call.seeds[i]
        images = call.pipe.make(*texts, call.given["image"], call.given["mask"], call.settings)
        latents = np.zeros((1, 1, 1, 1), np.float32)
        prompts, negatives, seeds = map(tuple, texts)
        return Result(images, seeds, prompts, negatives, latents, call.settings, "fake")

    def preview(self, mode: str) -> Preview:
        return Preview(self.step, self.num_steps, self.index, lambda: self.shown)

    @property
    def shown(self) -> np.ndarray:
        return self.result().images[:, ::8, ::8]


@dataclass
class FakeSlots:
    """Pictures in turns, as many as their branches allow."""

    pipe: Any
    size: int
    pictures: list[FakePicture] = field(default_factory=list)

    @property
    def room(self) -> int:
        return self.size - sum(picture.branches for picture in self.pictures)

    def why_alone(self, call: FakeCall) -> str | None:
        return "it asks for it" if "!alone" in " ".join(call.prompts) else None

    def enter(self, call: FakeCall, index: int) -> FakePicture:
        picture = FakePicture(call, index)
        one = {"prompt": [picture.prompt], "seed": [call.seeds[index]]}
        self.pipe.remember({**call.given, **one})
        self.pictures.append(picture)
        return picture

    def remove(self, picture: FakePicture) -> None:
        self.pictures = [other for other in self.pictures if other is not picture]

    def due(self) -> list[FakePicture]:
        room, chosen = self.size, []
        for picture in self.pictures:
            if picture.branches <= room or not chosen:
                chosen.append(picture)
                room -= picture.branches
        return chosen

    def advance(self, pictures: list[FakePicture] | None = None, at_most: int = 4) -> list:
        pictures = self.due() if pictures is None else pictures
        left = [picture.num_steps - picture.rows_done for picture in pictures]
        looks = [p.look_every - p.rows_done % p.look_every for p in pictures if p.look_every]
        with self.pipe.inside():
            self.pipe.trouble([picture.prompt for picture in pictures])
            self.pipe.together.append(len(pictures))
            for _ in range(min(at_most, *left, *looks, 1000)):
                self.pipe.run_step()
                for picture in pictures:
                    picture.rows_done += 1
        rest = [picture for picture in self.pictures if picture not in pictures]
        finished = [picture for picture in pictures if picture.rows_done == picture.num_steps]
        self.pictures = rest + [picture for picture in pictures if picture not in finished]
        return finished
