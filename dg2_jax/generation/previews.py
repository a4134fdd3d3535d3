"""From a caller's wish to see previews to the watcher of a run."""

from collections.abc import Callable

import numpy as np

from dg2_jax.generation.drivers import Watcher
from dg2_jax.generation.plan import Plan
from dg2_jax.models.model import Model
from dg2_jax.result import Preview


def watcher(
    on_preview: Callable[[Preview], bool | None] | None,
    model: Model,
    plan: Plan,
    batch: list[int],
    *,
    every: int,
    mode: str,
    transport: str,
) -> Watcher | None:
    """The watcher of a batch; None where nobody wants to see it.

    Args:
        on_preview: is shown the previews; True stops.
        model: the model.
        plan: of the call.
        batch: indices of the images; the last may be repeated.
        every: steps between previews.
        mode: "linear" or "vae".
        transport: one of `drivers.TRANSPORTS`.
    """
    if on_preview is None:
        return None
    steps, rows = plan.settings.num_inference_steps, plan.num_rows
    rows_per_step = max(1, round(rows / steps))
    num_steps = min(steps, rows) if rows else steps
    num_images = len(set(batch))

    def look(rows_done: int, draw: Callable[[], np.ndarray]) -> bool:
        step = -(-rows_done * num_steps // rows)
        preview = Preview(step, num_steps, batch[0], lambda: draw()[:num_images])
        return bool(on_preview(preview))

    autoencoder = model.autoencoder if mode == "vae" else None
    return Watcher(look, every * rows_per_step, autoencoder, transport)
