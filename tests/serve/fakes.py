"""A pipeline that makes deterministic pictures in no time, for tests of the server and the page."""

import contextlib
import dataclasses
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from dg2_jax.bank import Entry
from dg2_jax.bank.matching import Candidate, Match
from dg2_jax.checks import ParameterError
from dg2_jax.controls.arguments import expand_prompts, expand_seed, takes_settings
from dg2_jax.result import Preview, Result
from dg2_jax.settings import Settings
from dg2_jax.text.wildcards import Wildcards
from tests.serve import fake_slots
from tests.serve.fake_slots import FakeCall, FakeSlots

SIZE = 64


def picture(size: int | tuple[int, int], *what: Any) -> np.ndarray:
    """A smooth picture of a side, or of a width and height, that only depends on `what`."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).digest()
    coarse = np.random.default_rng(list(digest)).integers(0, 256, (4, 4, 3))
    width, height = (size, size) if isinstance(size, int) else size
    return np.kron(coarse, np.ones((height // 4, width // 4, 1))).astype(np.uint8)


class FakePipeline:
    """Behaves as `dg2_jax.Pipeline` does, as far as the server can tell.

    A prompt may ask for trouble: "!oom" fails for lack of memory in batches above one, "!oom1"
    always, "!full" where it is to share a batch, "!value" and "!crash" with other errors.

    Attributes:
        step_seconds: how long a step takes.
        calls: the keyword arguments of every call, and of every picture that enters slots.
        together: how many pictures moved together in slots, the last times.
    """

    def __init__(self, step_seconds: float = 0.0, size: int = SIZE):
        self.model = SimpleNamespace(
            name="fake", default_size=size, params={"ema": None, "raw": None}
        )
        self.wildcards = Wildcards()
        self.size = size
        self.step_seconds = step_seconds
        self.calls: list[dict[str, Any]] = []
        self.together: deque[int] = deque(maxlen=1000)
        self.steps_run = 0
        self.go = threading.Event()  # cleared, every step waits, however slow the machine
        self.go.set()
        self._inside = threading.Lock()

    @takes_settings()
    def __call__(
        self,
        prompt="",
        negative_prompt="",
        num_images=1,
        num_inference_steps=None,
        guidance_scale=None,
        solver=None,
        seed=0,
        weights="ema",
        *,
        image=None,
        mask=None,
        control_image=None,
        on_preview=None,
        preview_every=5,
        preview_mode="linear",
        progress=None,
        **controls,
    ) -> Result:
        usual = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "solver": solver,
            "weights": weights,
        }
        controls |= {name: value for name, value in usual.items() if value is not None}
        with self.inside():
            self.remember({"prompt": prompt, "seed": seed, "image": image, **controls})
            settings = Settings(**controls)
            if settings.anagram is not None:
                prompt = " | ".join(text for text, _ in settings.anagram)
            prompts, negatives = expand_prompts(prompt, negative_prompt, num_images)
            seeds = expand_seed(seed, len(prompts))
            prompts = [self.wildcards.drawn(p, s) for p, s in zip(prompts, seeds, strict=True)]
            self.trouble(prompts)
            result = Result(
                images=self.make(prompts, negatives, seeds, image, mask, settings),
                seeds=tuple(seeds),
                prompts=tuple(prompts),
                negative_prompts=tuple(negatives),
                latents=np.zeros((len(prompts), 1, 1, 1), np.float32),
                settings=settings,
                model="fake",
            )
            shown = result.images[:, ::8, ::8]
            for step in range(1, settings.num_inference_steps + 1):
                self.run_step()
                if on_preview is not None and step % preview_every == 0:
                    preview = Preview(step, settings.num_inference_steps, 0, lambda: shown)
                    if on_preview(preview):
                        return dataclasses.replace(result, images=result.images[:0], stopped=True)
            return result

    def remember(self, call: dict[str, Any]) -> None:
        """Adds to `calls`."""
        self.calls.append(call)

    def begin(self, **arguments: Any) -> FakeCall:
        """A call whose pictures may enter slots."""
        return fake_slots.begin(self, arguments)

    def slots(self, size: int = 16) -> FakeSlots:
        """Slots with room for a number of branches."""
        return FakeSlots(self, size)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Held while anything is computed."""
        assert self._inside.acquire(blocking=False), "the pipeline is not re-entrant"
        try:
            yield
        finally:
            self._inside.release()

    def run_step(self) -> None:
        """Takes its time."""
        time.sleep(self.step_seconds)
        self.go.wait(60)
        self.steps_run += 1

    def make(self, prompts, negatives, seeds, image, mask, settings) -> np.ndarray:
        about = dataclasses.asdict(settings)
        given = [a.tobytes() for a in (image, mask) if a is not None]
        about["given"] = [hashlib.sha256(data).hexdigest() for data in given]
        factor = settings.upscale or 1
        sides = settings.width or self.size, settings.height or self.size
        sides = sides if settings.hires_size is None else settings.hires_size[::-1]
        side = sides[0] * factor, sides[1] * factor
        made = np.stack(
            [picture(side, *row, about) for row in zip(prompts, negatives, seeds, strict=True)]
        )
        if mask is not None and image is not None:
            from PIL import Image

            def fit(array):
                return np.asarray(Image.fromarray(array).resize(side))

            keep = fit(mask) < 128
            made[:, keep] = fit(image)[keep]
        return made

    @staticmethod
    def trouble(prompts: list[str], begins: bool = False) -> None:
        """Raises what a batch of prompts asks for, some of it only where a call `begins`."""
        text = " ".join(prompts)
        if begins and "!full" in text:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        if not begins and ("!oom1" in text or ("!oom" in text and len(prompts) > 1)):
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        if "!value" in text:
            raise ParameterError("prompt", "must be kinder")
        if "!crash" in text and not begins:
            raise KeyError("unexpected")


def fake_upscale(images, model="x4plus", scale=4, *, progress=None):
    """Enlarges by repetition."""
    if progress is not None:
        progress(1, 1)
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


class FakeBank:
    """A bank of four prompts, with the interface of `bank.Bank`."""

    def __init__(self) -> None:
        self.prompts = {
            "1": ("train", "lakes", "a lake at dawn"),
            "2": ("train", "lakes", "a tarn in the mist"),
            "3": ("train", "mountains", "a snowy summit"),
            "4": ("validation", "lakes", "a pond at noon"),
        }
        self.saved = 0

    def categories(self) -> list[str]:
        return sorted({category for _, category, _ in self.prompts.values()})

    def entries(self, category=None, split="train") -> list[Entry]:
        return [
            Entry(key, text, theirs, where)
            for key, (where, theirs, text) in self.prompts.items()
            if where == split and category in (None, theirs)
        ]

    def match(self, prompt, k=5, temperature=1.0, bank="train", category=None, **_):
        if category not in (None, *self.categories()):
            raise ParameterError("category", f"must be one of lakes, mountains; got {category!r}")

        def score(text: str) -> float:
            words, theirs = set(prompt.split()), set(text.split())
            return len(words & theirs) / len(words | theirs)

        found = [
            Candidate(key, text, c, split, score(text), 0.0)
            for key, (split, c, text) in self.prompts.items()
            if split == bank and category in (None, c)
        ]
        found.sort(key=lambda candidate: -candidate.score)
        chosen = found[0] if found and found[0].score > 0 else None
        best = chosen.prompt if chosen else prompt
        return Match(prompt=best, chosen=chosen, candidates=tuple(found[:k]), seed=0)

    def random_prompt(self, category=None, split="train", seed=None) -> str:
        if category is not None and category not in self.categories():
            raise ParameterError("category", f"must be one of lakes, mountains; got {category!r}")
        for where, theirs, text in self.prompts.values():
            if where == split and category in (None, theirs):
                return text
        raise ParameterError("category", f"{category!r} has no prompts in this split")

    def add(self, prompts, category, split="train") -> list[str]:
        keys = [str(len(self.prompts) + 1 + i) for i in range(len(prompts))]
        self.prompts |= {key: (split, category, p) for key, p in zip(keys, prompts, strict=True)}
        return keys

    def remove(self, ids) -> None:
        if missing := [key for key in ids if key not in self.prompts]:
            raise ParameterError("ids", f"must be in the bank; these are not: {missing}")
        for key in ids:
            del self.prompts[key]

    def save(self) -> None:
        self.saved += 1
