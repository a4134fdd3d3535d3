"""The operations of a compiled program and their arithmetic, read from its text.

XLA's own count (`compiled.cost_analysis()`) counts the body of a loop once, however often it runs.
"""

import math
import re
from collections import defaultdict
from typing import NamedTuple

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\([^()]*\)|\S+) ([\w\-]+)\((.*)")
_CONTROL = ("while", "conditional", "call")  # their time is that of their bodies


class Operation(NamedTuple):
    """One instruction of a compiled program.

    Attributes:
        kind: the JAX primitive it comes from, otherwise XLA's name for it.
        shape: of its result.
        gflop: of the products and convolutions in it, per run.
    """

    kind: str
    shape: str
    gflop: float


def read(text: str) -> tuple[dict[str, Operation], float]:
    """The operations by name, without loops and branches themselves; GFLOP of the whole program.

    Args:
        text: `compiled.as_text()`. A loop counts as often as its known trip count, otherwise once;
            all branches count.
    """
    operations: dict[str, Operation] = {}
    # GFLOP of every computation; callees come before callers.
    within: defaultdict[str, float] = defaultdict(float)
    shapes: dict[str, tuple[int, ...]] = {}
    computation = ""
    for line in text.splitlines():
        if opened := _COMPUTATION.match(line):
            computation = opened.group(1)
        if not (match := _INSTRUCTION.match(line)):
            continue
        name, shape, opcode, rest = match.groups()
        shapes[name] = _sizes(shape)
        gflop = _gflop(opcode, rest, name, shapes)
        called = re.findall(r"(?:calls|body|to_apply|branch_computations)=(\S+)", rest)
        callees = re.findall(r"%([\w.\-]+)", " ".join(called))
        runs = re.findall(r'"known_trip_count":\{"n":"(\d+)"', rest) or [1]
        gflop += int(runs[0]) * sum(within[callee] for callee in callees)
        within[computation] += gflop
        if opcode not in _CONTROL:
            origin = re.search(r'op_name="[^"]*?([\w\-]+)"', rest)
            kind = origin.group(1) if origin else opcode
            operations[name] = Operation(kind, shape.split("{")[0], gflop)
    return operations, within[computation]


def _gflop(opcode: str, rest: str, name: str, shapes: dict[str, tuple[int, ...]]) -> float:
    operands = re.findall(r"%([\w.\-]+)", rest.split(")")[0])
    if opcode == "dot":
        axes = "".join(re.findall(r"lhs_contracting_dims=\{([\d,]+)\}", rest)).split(",")
        summed = [shapes[operands[0]][int(axis)] for axis in axes]
    elif opcode == "convolution":
        (layout,) = re.findall(r"dim_labels=\w+_(\w+)->", rest)
        kernel = zip(layout, shapes[operands[1]], strict=True)
        summed = [size for label, size in kernel if label != "o"]
    else:
        return 0.0
    return 2e-9 * math.prod((*shapes[name], *summed))


def _sizes(shape: str) -> tuple[int, ...]:
    sizes = re.match(r"\w+\[([\d,]*)\]", shape)
    return tuple(map(int, filter(None, sizes.group(1).split(",")))) if sizes else ()
