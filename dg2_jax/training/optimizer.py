"""The optimiser: AdamW or Muon behind global-norm clipping, linear warm-up, cosine decay."""

import functools
from typing import Any

import jax
import optax

from dg2_jax.training.config import OptimConfig
from dg2_jax.training.muon import muon


def learning_rate(config: OptimConfig, num_steps: int) -> optax.Schedule:
    """0 to the peak in `warmup_steps`, the peak, half a cosine down to `final_learning_rate`.

    A run that is no longer than the warm-up ends within it.

    Args:
        config: the rates; the cosine takes the last `decay_steps`, or everything after the warm-up.
        num_steps: length of the run, where the cosine ends.

    Raises:
        ValueError: the run is too short for the warm-up and `decay_steps`.
    """
    warmup, peak = config.warmup_steps, config.learning_rate
    after = max(num_steps - warmup, 0)
    if config.decay_steps > after:
        raise ValueError(
            f"optim.decay_steps must be at most {after}, num_steps without the warm-up, "
            f"got {config.decay_steps}"
        )
    decay = config.decay_steps or max(after, 1)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0 if warmup else peak, peak, warmup),
            optax.constant_schedule(peak),
            optax.cosine_decay_schedule(peak, decay, config.final_learning_rate / peak),
        ],
        [warmup, warmup + max(after - decay, 0)],
    )


def make(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """The whole chain; decoupled decay acts on arrays of two or more axes only.

    "adamw" is Loshchilov and Hutter's (arXiv 1711.05101). "muon" (Jordan et al. 2024) replaces the
    momentum of every matrix by the nearest orthogonal one; a convolution's kernel (h, w, in, out)
    counts as a matrix from h·w·in to out, and biases and gains go by NAdam. Its updates are scaled
    to the root mean square of AdamW's, 0.2 (Liu et al., arXiv 2502.16982).
    """
    rate = learning_rate(config, num_steps)
    if config.name == "muon":
        transform = muon(
            rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            weight_decay_mask=_is_matrix,
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
        )
    else:
        transform = optax.adamw(
            rate,
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=_is_matrix,
        )
    transform = optax.chain(optax.clip_by_global_norm(config.clip_norm), transform)
    if not config.frozen:
        return transform
    return optax.partition(
        {"trained": transform, "frozen": optax.set_to_zero()},
        functools.partial(_labels, frozen=config.frozen),
    )


def _labels(params: Any, frozen: tuple[str, ...]) -> Any:
    """Labels for frozen and trained parameters; raises ValueError for unknown names."""
    unknown = sorted(set(frozen) - set(params))
    if unknown:
        raise ValueError(
            f"optim.frozen must be among {', '.join(params)}, got {', '.join(unknown)}"
        )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "frozen" if path[0].key in frozen else "trained", params
    )


def _is_matrix(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)
