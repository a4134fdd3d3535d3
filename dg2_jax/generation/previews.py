"""Makes the watchers of a call's batches from its preview callback."""

from collections.abc import Callable

import numpy as np

from dg2_jax.checks import ParameterError
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
        mode: "linear", "vae" or "taesd".
        transport: one of `drivers.TRANSPORTS`.

    Raises:
        ParameterError: the model has no TAESD.
    """
    steps, rows = call.plan.settings.num_inference_steps, call.plan.num_rows
    rows_per_step = max(1, round(rows / steps))
    num_steps = min(steps, rows) if rows else steps
    model = call.model
    if mode == "taesd" and model.taesd is None:
        raise ParameterError("preview_mode", f"must not be taesd with {model.name}, which has none")
    decoders = {
        "vae": (model.autoencoder, model.autoencoder_params),
        "taesd": (model.taesd, model.taesd_params),
    }
    autoencoder, params = decoders.get(mode, (None, None))

    def watcher(batch: list[int]) -> Watcher | None:
        if on_preview is None:
            return None
        num_images = len(set(batch))  # the last index may be repeated

        def look(rows_done: int, draw: Callable[[], np.ndarray]) -> bool:
            step = -(-rows_done * num_steps // rows)
            return bool(on_preview(Preview(step, num_steps, batch[0], lambda: draw()[:num_images])))

        return Watcher(look, every * rows_per_step, autoencoder, transport, params)

    return watcher
