"""A program compiled and timed: what every part says of one."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from dg2_jax.scripts.accelerator import kernels
from dg2_jax.scripts.jaxpr_cost import cost_of

_ROUNDS = 3
_LEAST_SECONDS = 0.1  # of a round, so that the clock and the dispatch do not count


def compiled(function: Callable, *args: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A program and what is known of it before it runs.

    Args:
        function: is jitted.
        args: of the function, or their shapes.
        options: of `jax.jit`.

    Returns:
        The program, and a dict: `trace_s`, `compile_s`; `gflop`, of products and convolutions in
        the traced program, loops counted as often as they run; `xla_gflop`, of XLA's own count,
        which counts the body of a loop once and leaves out what libraries compute; `memory_mib` of
        arguments, results and temporary values; `attention`, the kernels in it.
    """
    start = time.perf_counter()
    traced = jax.jit(function, **options).trace(*args)
    lowered = traced.lower()
    middle = time.perf_counter()
    program = lowered.compile()
    end = time.perf_counter()
    facts = {
        "trace_s": middle - start,
        "compile_s": end - middle,
        "gflop": cost_of(traced.jaxpr.jaxpr).flop / 1e9,
        "attention": kernels.attention(program.as_text() or ""),
        **_analysed(program),
    }
    return program, facts


def _analysed(program: Any) -> dict[str, float]:
    """What XLA says of a compiled program; not every platform says everything."""
    facts: dict[str, float] = {}
    counted = program.cost_analysis()
    if counted and "flops" in counted:
        facts["xla_gflop"] = counted["flops"] / 1e9
    memory = program.memory_analysis()
    if memory is not None:
        size = (
            memory.argument_size_in_bytes + memory.output_size_in_bytes
            + memory.temp_size_in_bytes - memory.alias_size_in_bytes
        )  # fmt: skip
        facts["memory_mib"] = size / 2**20
    return facts


def seconds(run: Callable[[], Any], once: bool = False) -> float:
    """Of one call of `run`, whose results are waited for; the median of some rounds.

    Args:
        run: called once beforehand; calls of a round are dispatched without waiting.
        once: a single round of a single call, for rehearsals.
    """
    jax.block_until_ready(run())
    start = time.perf_counter()
    jax.block_until_ready(run())
    first = time.perf_counter() - start
    if once:
        return first
    count = max(1, min(100, round(_LEAST_SECONDS / max(first, 1e-6))))
    rounds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            result = run()
        jax.block_until_ready(result)
        rounds.append((time.perf_counter() - start) / count)
    return statistics.median(rounds)
