"""The optimiser: AdamW behind global-norm clipping, with linear warm-up and cosine decay."""

import jax
import optax

from dg2_jax.config import OptimConfig


def learning_rate(config: OptimConfig, num_steps: int) -> optax.Schedule:
    """0 to the peak in `warmup_steps`, then half a cosine down to `final_learning_rate`.

    Args:
        config: the rates.
        num_steps: length of the run, where the cosine ends.

    Raises:
        ValueError: the warm-up is not shorter than the run.
    """
    if config.warmup_steps >= num_steps:
        raise ValueError(
            f"optim.warmup_steps must be below num_steps ({num_steps}), got {config.warmup_steps}"
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if config.warmup_steps else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=num_steps,
        end_value=config.final_learning_rate,
    )


def make(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101); decay on arrays of two or more axes only."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, num_steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
