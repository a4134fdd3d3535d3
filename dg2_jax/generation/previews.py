"""Makes the watchers of a call's batches from its preview callback, and its progress bar."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dg2_jax.checks import ParameterError
from dg2_jax.controls.arguments import check_preview
from dg2_jax.generation.call import Call
from dg2_jax.generation.drivers import Watcher
from dg2_jax.models.model import Model, Network, Params
from dg2_jax.result import Preview

Watching = Callable[[list[int]], Watcher | None]
Progress = Callable[[int, int], None]


@contextlib.contextmanager
def watching(
    call: Call,
    on_preview: Callable[[Preview], bool | None] | None,
    every: int,
    mode: str,
    transport: str,
    progress: Progress | bool | None,
) -> Iterator[tuple[Watching, Progress | None]]:
    """What `Call.finish` takes: the map from a batch's indices to its watcher, and its progress.

    Args:
        call: to watch.
        on_preview: called with each preview; returning True stops the call.
        every: steps between previews. The bar moves as often, or at every step without previews.
        mode: "linear", "vae" or "taesd".
        transport: one of `drivers.TRANSPORTS`.
        progress: what is told the images done; True shows a bar of the steps, on stderr or in a
            notebook, with rate and time left.

    Raises:
        ParameterError: `every` or `mode` is not allowed, or the model has no TAESD.
    """
    check_preview(every, mode)
    plan = call.plan
    num_steps = call.num_steps
    autoencoder, params = decoder(call.model, mode)
    batches = call.batches

    def watcher(batch: list[int]) -> Watcher | None:
        if on_preview is None and bar is None:
            return None
        num_images = len(set(batch))  # the last index may be repeated
        before = batches.index(batch) * num_steps
        stopped = False

        def look(rows_done: int, draw: Callable[[], np.ndarray]) -> bool:
            nonlocal stopped
            step = call.step_of(rows_done)
            if bar is not None:
                bar.update(before + step - bar.n)
            if on_preview is not None and not stopped:  # the end of a first pass stops nothing
                preview = Preview(step, num_steps, batch[0], lambda: draw()[:num_images])
                stopped = bool(on_preview(preview))
            return stopped

        steps_between = every if on_preview else 1
        return Watcher(look, steps_between * plan.rows_per_step, autoencoder, transport, params)

    with contextlib.ExitStack() as stack:
        total = len(batches) * num_steps if plan.num_rows else 0
        bar = stack.enter_context(_bar(total)) if progress is True else None
        yield watcher, progress if callable(progress) else None


def decoder(model: Model, mode: str) -> tuple[Network | None, Params | None]:
    """What decodes previews of a mode, with its parameters; None for "linear".

    Raises:
        ParameterError: the model has no TAESD.
    """
    if mode == "taesd" and model.taesd is None:
        raise ParameterError("preview_mode", f"must not be taesd with {model.name}, which has none")
    decoders = {
        "vae": (model.autoencoder, model.autoencoder_params),
        "taesd": (model.taesd, model.taesd_params),
    }
    return decoders.get(mode, (None, None))


def _bar(total: int) -> Any:
    # Late, as few want it: it looks for a notebook, where it draws another bar than in a terminal.
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="step")
