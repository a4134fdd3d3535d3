"""The compiled program of pictures that share a batch while each is at a step of its own.

A picture is what a call of one picture is, its inputs and the progress of its sampling; the program
joins as many as there are branches of guidance to evaluate. Its size is that number of branches, so
an unguided picture takes half of what a guided one does, and one program serves any mixture.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from dg2_jax import program_cache
from dg2_jax.diffusion import sampling
from dg2_jax.diffusion.guidance import Branches
from dg2_jax.diffusion.sampling import Progress
from dg2_jax.generation import devices
from dg2_jax.generation import program as program_lib
from dg2_jax.generation.inputs import Inputs
from dg2_jax.generation.program import Program, Run, Weights


class Slot(NamedTuple):
    """A picture under way.

    Attributes:
        inputs: of a batch of this one picture.
        progress: of its sampling, with `rows_done` (1,).
    """

    inputs: Inputs
    progress: Progress


class Mixture(NamedTuple):
    """How the r branches of r slots are combined; slots that are not needed repeat others.

    Attributes:
        branches: which branch is of which slot.
        prompt_weights: see `Guidance`; of branches that an image does not have, 0.
    """

    branches: Branches
    prompt_weights: Float[Array, "r n"]


@functools.partial(jax.jit, static_argnums=0)
@program_cache.kept
def enter(program: Program, weights: Weights, inputs: Inputs) -> tuple[Slot, tuple[Any, ...]]:
    """A picture before its first row, and the conditioning of each of its branches.

    Args:
        program: a guided one.
        weights: of its networks.
        inputs: of a batch of one picture.

    Returns:
        The slot, of the same shapes for any number of prompts, and conditionings of batch 1: of its
        prompts, then of the negative prompt.
    """
    run = program_lib.begin(program, weights, inputs)
    count = inputs.guidance.prompt_weights.shape[1] + 1
    texts = tuple(jax.tree.map(lambda a, i=i: a[i : i + 1], run.conditioning) for i in range(count))
    kept = inputs._replace(
        text=jax.tree.map(lambda a: a[:0], inputs.text),  # the conditionings stand for it
        guidance=inputs.guidance._replace(prompt_weights=jnp.ones((1, 1))),
        variation=None,
    )
    slot = Slot(kept, run.progress._replace(rows_done=jnp.zeros(1, jnp.int32)))
    return devices.whole(program.mesh, (slot, texts))


def advanced(
    program: Program,
    weights: Weights,
    slots: tuple[Slot, ...],
    texts: tuple[Any, ...],
    mixture: Mixture,
    rows: Int[Array, ""],
) -> tuple[tuple[Progress, ...], UInt8[Array, "r h w 3"]]:
    """The progress of each slot after some rows, and the linear previews.

    Args:
        program: a guided one.
        weights: of its networks.
        slots: as many as texts.
        texts: the conditioning of each branch.
        mixture: how the branches are combined.
        rows: to run; no slot may have fewer left.
    """
    inputs = _together([slot.inputs for slot in slots], mixture.prompt_weights)
    progress = _joined([slot.progress for slot in slots])
    run = Run(_joined(texts), inputs.keys, progress, program_lib.linear(progress.x0, inputs))
    step = program_lib.make_step(program, weights, inputs, run, mixture.branches)
    progress = sampling.advance(step, progress, progress.rows_done + rows)
    each = tuple(jax.tree.map(lambda a, i=i: a[i : i + 1], progress) for i in range(len(slots)))
    return devices.whole(program.mesh, (each, program_lib.linear(progress.x0, inputs)))


advance = program_lib.compiled(program_cache.kept(advanced), num_static=1)  # `advanced`, compiled


def _together(each: Sequence[Inputs], prompt_weights: Float[Array, "r n"]) -> Inputs:
    """The inputs of all slots, each with a table of its own, as far as steps use them."""
    first = each[0]
    kept = [(i.source.original, i.source.change, i.source.masked) for i in each]
    original, change, masked = _joined(kept)
    return first._replace(
        guidance=_joined([i.guidance for i in each])._replace(prompt_weights=prompt_weights),
        table=jax.tree.map(lambda *a: jnp.stack(a), *(i.table for i in each)),
        keys=_joined([i.keys for i in each]),
        source=first.source._replace(original=original, change=change, masked=masked),
    )


def _joined(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *trees)
