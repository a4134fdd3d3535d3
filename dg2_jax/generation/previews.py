"""Makes the watchers of a call's batches from its preview callback."""

from collections.abc import Callable

import numpy as np

from dg2_jax.generation.call import Call
from dg2_jax.generation.drivers import Watcher
from dg2_jax.result import Preview


def watching(
    on_preview: Callable[[Preview], bool | None] | None,
    call: Call,
    every: int,
    mode: str,
    transport: str,
) -> Callable[[list[int]], Watcher | None]:
    """Maps the indices of a batch to its watcher; None without a callback.

    Args:
        on_preview: called with each preview; returning True stops the call.
        call: to watch.
        every: steps between previews.
        mode: "linear" or "vae".
        transport: one of `drivers.TRANSPORTS`.
    """
    steps, rows = call.plan.settings.num_inference_steps, call.plan.num_rows
    rows_per_step = max(1, round(rows / steps))
    num_steps = min(steps, rows) if rows else steps
    autoencoder = call.model.autoencoder if mode == "vae" else None

    def watcher(batch: list[int]) -> Watcher | None:
        if on_preview is None:
            return None
        num_images = len(set(batch))  # the last index may be repeated

        def look(rows_done: int, draw: Callable[[], np.ndarray]) -> bool:
            step = -(-rows_done * num_steps // rows)
            return bool(on_preview(Preview(step, num_steps, batch[0], lambda: draw()[:num_images])))

        return Watcher(look, every * rows_per_step, autoencoder, transport)

    return watcher
