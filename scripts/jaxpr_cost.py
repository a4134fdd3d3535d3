"""The arithmetic and the memory of a function, from its traced program: nothing is compiled.

XLA's own count (`lowered.cost_analysis()`) counts the body of a loop once, and knows no memory
before it compiles for a device that must be there.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core


class Cost(NamedTuple):
    """Of a traced program.

    Attributes:
        flop: of its products and convolutions.
        peak: bytes of its values that are alive at once, arguments not counted.
    """

    flop: float
    peak: int


def cost(function: Callable, *args: Any) -> Cost:
    """The cost of a function of shapes."""
    return cost_of(jax.make_jaxpr(function)(*args).jaxpr)


def cost_of(jaxpr: Any) -> Cost:
    """The cost of a traced program."""
    last: dict[Any, int] = {}
    for i, equation in enumerate(jaxpr.eqns):
        last |= {var: i for var in equation.invars if not isinstance(var, core.Literal)}
    last |= {var: len(jaxpr.eqns) for var in jaxpr.outvars if not isinstance(var, core.Literal)}
    own, flop, alive, peak = set(), 0.0, 0, 0
    for i, equation in enumerate(jaxpr.eqns):
        inner = [cost_of(one) for one in _inside(equation)]
        runs = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        flop += runs * sum(one.flop for one in inner) + _flop(equation)
        made = sum(map(_bytes, equation.outvars))
        peak = max(peak, alive + max([made, *(one.peak for one in inner)]))
        for var in equation.outvars:
            if var in last:
                own.add(var)
                alive += _bytes(var)
        done = {var for var in own if last[var] == i}
        alive -= sum(map(_bytes, done))
        own -= done
    return Cost(flop, peak)


def _inside(equation: Any) -> Iterator[Any]:
    """The programs within an operation; of those for several platforms the one for all others."""
    if equation.primitive.name == "cond":
        yield equation.params["branches"][-1].jaxpr
        return
    for value in equation.params.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _flop(equation: Any) -> float:
    size = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if equation.primitive.name == "dot_general":
        (axes, _), _ = equation.params["dimension_numbers"]
        return 2.0 * size * math.prod(equation.invars[0].aval.shape[axis] for axis in axes)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * size * math.prod(kernel) / outputs
    return 0.0


def _bytes(var: Any) -> int:
    return math.prod(var.aval.shape) * var.aval.dtype.itemsize
