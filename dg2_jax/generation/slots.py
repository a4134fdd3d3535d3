"""Many calls at once: their pictures share batches, each at a step of its own.

A picture enters when there is room and leaves when it is finished, whatever the others do. The
pictures of a batch may differ in everything that is data: prompts, seeds, solver, steps, guidance,
strength, source picture and mask. What they look like does not depend on their neighbours.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dg2_jax.diffusion.guidance import Branches
from dg2_jax.generation import coder, packed, previews
from dg2_jax.generation import plan as planning
from dg2_jax.generation.call import Call, Finished
from dg2_jax.generation.packed import Mixture
from dg2_jax.result import Preview, Result
from dg2_jax.settings import BRANCH_SIZES, UNSHARED

ROWS_AT_ONCE = 4  # of the solvers' tables: no picture waits longer for its turn to enter


def why_alone(call: Call) -> str | None:
    """Why a call cannot share its batches with other calls; None if it can."""
    for name, (neutral, reason) in UNSHARED.items():
        if getattr(call.plan.settings, name) != neutral:
            return f"{name}: {reason}"
    return "prompt: LoRAs change the weights" if any(call.tags) else None


class Picture:
    """A picture under way.

    Attributes:
        call: it is of.
        index: of the picture in the call.
        look_every: steps between the moments at which `Slots.advance` stops for it, None: never.
        rows_done: rows of the solver that are done.
        kind: pictures of equal kinds can share a batch.
    """

    def __init__(self, call: Call, index: int, look_every: int | None = None):
        """Encodes its texts and draws its noise.

        Raises:
            ParameterError: as `Pipeline.__call__` for its prompts.
        """
        self.call, self.index, self.look_every = call, index, look_every
        self.rows_done = 0
        plan, inputs = call.inputs([index], call.text_encoder)
        plan = planning.always_guided(plan)
        inputs = jax.device_put(inputs)
        self.program, self.weights = plan.program, call.weights
        self.prompt_weights = np.asarray(inputs.guidance.prompt_weights)[0]
        self._guided = _guided_rows(plan, self.prompt_weights, inputs.guidance.scale)
        self.slot, self.texts = packed.enter(self.program, self.weights, inputs)
        self.shown: np.ndarray | None = None
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves((self.texts[0], self.slot)))
        self.kind: Hashable = (self.program, id(self.weights.denoiser), shapes)

    @property
    def num_steps(self) -> int:
        """Steps of its solver."""
        return self.call.plan.num_steps

    @property
    def step(self) -> int:
        """The steps that are done."""
        return self.call.plan.step_of(self.rows_done) if self.rows_done else 0

    @property
    def rows_left(self) -> int:
        """Rows of its solver that are not done."""
        return self.call.plan.num_rows - self.rows_done

    @property
    def is_guided(self) -> bool:
        """Whether the next row evaluates the negative prompt."""
        return bool(self._guided[self.rows_done])

    @property
    def branches(self) -> int:
        """The prompts and negative prompts that the next row evaluates."""
        return len(self.prompt_weights) + self.is_guided

    def rows_alike(self) -> int:
        """Rows until the next moment to look, the end, or a change of the branches."""
        to_come = self._guided[self.rows_done : -1]
        count = int(np.argmin(np.append(to_come == to_come[:1], False)))
        if self.look_every is not None:
            every = self.look_every * self.call.plan.rows_per_step
            count = min(count, every - self.rows_done % every)
        return count

    @property
    def is_to_be_seen(self) -> bool:
        """Whether it has come to a moment to look, or to its end."""
        if self.look_every is None or not self.rows_done:
            return False
        every = self.look_every * self.call.plan.rows_per_step
        return self.rows_done % every == 0 or not self.rows_left

    def preview(self, mode: str = "linear") -> Preview:
        """What it looks like so far, after a first row.

        Raises:
            ParameterError: the model cannot draw this mode.
        """
        autoencoder, params = previews.decoder(self.call.model, mode)
        shown, x0 = self.shown, self.slot.progress.x0

        def draw() -> np.ndarray:
            if autoencoder is not None:
                return np.asarray(coder.decode(autoencoder, params, x0))
            assert shown is not None  # there was a row
            return shown[None]

        return Preview(self.step, self.num_steps, self.index, draw)

    def finish(self) -> Finished:
        """The picture, decoded, after its last row."""
        return self.call.decoded(self.slot.progress.state.x, self.slot.inputs, 1)

    def result(self) -> Result:
        """The finished picture as the result of a call of its own."""
        return self.call.result([self.finish()], [self.index])


class Slots:
    """The pictures under way, for one thread.

    Attributes:
        size: the most branches (prompts and negative prompts) that are evaluated at once; of
            `settings.BRANCH_SIZES`. Another value holds from the next call of `advance`.
        pictures: those whose turn is next come first.
    """

    def __init__(self, size: int = 16):
        """Room for a number of branches: an unguided picture takes one, a guided one two.

        Raises:
            ValueError: there is no program of that size.
        """
        if size not in BRANCH_SIZES:
            raise ValueError(f"size must be one of {', '.join(map(str, BRANCH_SIZES))}; got {size}")
        self.size = size
        self.pictures: list[Picture] = []

    @property
    def room(self) -> int:
        """Branches that the next rows leave free; below 0 where pictures take turns."""
        return self.size - sum(picture.branches for picture in self.pictures)

    @staticmethod
    def why_alone(call: Call) -> str | None:
        """Why a call may not enter; None if it may."""
        return why_alone(call)

    def enter(self, call: Call, index: int, look_every: int | None = None) -> Picture:
        """Adds a picture of a call; see `Picture`.

        Raises:
            ValueError: the call cannot share.
        """
        if (reason := why_alone(call)) is not None:
            raise ValueError(f"this call cannot share a batch: {reason}")
        picture = Picture(call, index, look_every)
        self.pictures.append(picture)
        return picture

    def remove(self, picture: Picture) -> None:
        """Takes a picture out, finished or not."""
        self.pictures = [other for other in self.pictures if other is not picture]

    def due(self) -> list[Picture]:
        """Whose turn it is: who has waited longest, and as many others of that kind as fit."""
        done = [picture for picture in self.pictures if not picture.rows_left]
        if done:
            return done
        chosen: list[Picture] = []
        room = self.size
        for picture in self.pictures:
            fits = picture.branches <= room or not chosen
            if fits and picture.kind == self.pictures[0].kind:
                chosen.append(picture)
                room -= picture.branches
        return chosen

    def advance(
        self, pictures: Sequence[Picture] | None = None, at_most: int = ROWS_AT_ONCE
    ) -> list[Picture]:
        """Runs some rows of pictures and takes out those that this finishes.

        After an error all pictures are as they were before.

        Args:
            pictures: of one kind; None: those that are `due`.
            at_most: rows to run; fewer where a picture is finished sooner, is to be looked at, or
                begins or ends to be guided.

        Returns:
            The finished pictures.
        """
        pictures = self.due() if pictures is None else list(pictures)
        rows = min((picture.rows_alike() for picture in pictures), default=0)
        if rows:
            _run(pictures, min(rows, at_most))
        waiting = [picture for picture in self.pictures if picture not in pictures]
        self.pictures = waiting + [picture for picture in pictures if picture.rows_left]
        return [picture for picture in pictures if not picture.rows_left]


def stream(calls: Sequence[Call], slots: Slots) -> Iterator[tuple[int, Result]]:
    """The results of calls in the order in which they are finished, each with its number.

    Calls that cannot share are run when it is their turn to begin.
    """
    made: list[dict[int, Finished]] = [{} for _ in calls]
    alone = [why_alone(call) is not None for call in calls]
    waiting = deque(
        (number, index)
        for number, call in enumerate(calls)
        for index in range(1 if alone[number] else len(call.prompts))
    )
    numbers: dict[Picture, int] = {}
    while waiting or numbers:
        while waiting and (alone[waiting[0][0]] or slots.room > 0):
            number, index = waiting.popleft()
            if alone[number]:
                yield number, calls[number].result(calls[number].finish())
            else:
                numbers[slots.enter(calls[number], index)] = number
        for picture in slots.advance():
            number, call = numbers.pop(picture), picture.call
            made[number][picture.index] = picture.finish()
            if len(made[number]) == len(call.prompts):
                yield number, call.result([made[number].pop(i) for i in range(len(call.prompts))])


def _guided_rows(plan: Any, prompt_weights: np.ndarray, scale: Any) -> np.ndarray:
    """Whether each row of a plan, and what follows the last one, evaluates the negative prompt."""
    if len(prompt_weights) > 1:
        return np.append(np.ones(plan.num_rows, bool), False)
    low, high = np.asarray(plan.settings.guidance_interval or (0.0, 1.0), np.float32)
    sigma = plan.table.sigma[: plan.num_rows]
    acts = (float(scale[0]) != 1.0) & (sigma >= low) & (sigma <= high)
    return np.append(acts, False)


def _run(pictures: list[Picture], rows: int) -> None:
    """Runs rows of all pictures, and waits for them."""
    image: list[int] = []
    texts: list[Any] = []
    most = max(len(picture.prompt_weights) for picture in pictures)
    prompts, weights, negative = [], [], []
    for i, picture in enumerate(pictures):
        first, count = len(texts), len(picture.prompt_weights)
        texts += picture.texts[: picture.branches]
        image += [i] * picture.branches
        prompts.append([*range(first, first + count), *[first] * (most - count)])
        weights.append([*picture.prompt_weights, *[0.0] * (most - count)])
        negative.append(len(texts) - 1)
    size = next(s for s in BRANCH_SIZES if s >= len(texts))

    def filled(values: Sequence[Any]) -> list[Any]:
        return [*values, *[values[0]] * (size - len(values))]

    places = tuple(np.asarray(filled(numbers), np.int32) for numbers in (image, prompts, negative))
    *on_device, joined = jax.device_put((*places, np.asarray(filled(weights), np.float32)))
    first_one = pictures[0]
    progress, shown = packed.advance(
        first_one.program,
        first_one.weights,
        tuple(filled([picture.slot for picture in pictures])),
        tuple(filled(texts)),
        Mixture(Branches(*on_device), joined),
        np.int32(rows),
    )
    shown = np.asarray(shown)  # waits, and raises what went wrong
    for picture, after, seen in zip(pictures, progress, shown, strict=False):
        picture.slot = picture.slot._replace(progress=after)
        picture.rows_done += rows
        picture.shown = seen
