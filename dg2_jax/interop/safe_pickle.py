"""A pickle reader that builds data and nothing else.

Python's own unpickler imports and calls whatever a file names. This one interprets the opcodes
itself: containers, numbers and strings are built; a name on the caller's allow-list becomes the
function listed there; any other class becomes a `Record`, which only remembers its name and state.
Nothing is imported, no attribute of anything is looked up.
"""

import mmap
import struct
from collections.abc import Callable, Mapping
from typing import Any

from dg2_jax.interop.pickle_values import (
    BUILTINS,
    CheckpointError,
    Known,
    Record,
    Reference,
    as_key,
    find,
    make_set,
)

_MAX_INTEGER_BYTES = 64
_MARK = object()
_DAMAGE = (LookupError, ValueError, TypeError, OverflowError, AttributeError, struct.error)


def loads(
    data: bytes | mmap.mmap,
    start: int,
    stop: int,
    known: Mapping[str, Any],
    persistent_load: Callable[[Any], Any],
    max_operations: int,
) -> Any:
    """The object that the pickle in `data[start:stop]` describes.

    Args:
        data: a file's contents.
        start: where a pickle of protocol 0 to 5 begins.
        stop: where it must have ended.
        known: dotted name to `Known` callable or constant, on top of `BUILTINS`.
        persistent_load: turns a persistent id into an object.
        max_operations: refuse a pickle of more opcodes; bounds memory, since every opcode builds at
            most one small object of its own (copying a container counts as its length).

    Raises:
        CheckpointError: damaged data, a refused name, or an opcode that data does not need.
    """
    machine = _Machine(data, start, stop, max_operations)
    machine.known = {**BUILTINS, **known}
    machine.persistent_load = persistent_load
    try:
        return machine.run()
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(f"damaged pickle near byte {machine.position}: {error}") from error


class _Machine:
    """The pickle virtual machine: a stack, a memo and a position."""

    known: Mapping[str, Any]
    persistent_load: Callable[[Any], Any]

    def __init__(self, data: bytes | mmap.mmap, start: int, stop: int, budget: int):
        self.data = data
        self.position = start
        self.stop = stop
        self.budget = budget
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            self.spend(1)
            opcode = self.take(1)
            if opcode == b".":
                return self.stack.pop()
            if opcode not in _OPERATIONS:
                raise CheckpointError(f"pickle opcode {opcode!r} at byte {self.position - 1}")
            _OPERATIONS[opcode](self)

    def spend(self, operations: int) -> None:
        self.budget -= operations
        if self.budget < 0:
            raise CheckpointError("the pickle holds far more objects than a file of this size may")

    def take(self, n: int) -> bytes:
        end = self.position + n
        if n < 0 or end > self.stop:
            raise CheckpointError(f"the pickle ends early: {n} bytes wanted at {self.position}")
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def number(self, layout: str) -> Any:
        return struct.unpack("<" + layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.stop)
        if end < 0:
            raise CheckpointError("the pickle ends inside a line")
        text = self.take(end - self.position).decode("utf-8")
        self.position += 1
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise CheckpointError("the pickle's stack is out of step")
        return value

    def pop_to_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise CheckpointError("the pickle's stack has no mark")

    def top(self, *kinds: type) -> Any:
        value = self.stack[-1]
        if not isinstance(value, kinds):
            raise CheckpointError(f"the pickle fills a {type(value).__name__} as a {kinds[0]}")
        return value

    def find(self, module: Any, name: Any) -> Any:
        return find(self.known, module, name)

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(args, tuple):
            raise CheckpointError("the pickle calls something without a tuple of arguments")
        if isinstance(function, Reference):
            return Record(function.name, args)
        if isinstance(function, Known):
            self.spend(sum(len(a) for a in args if isinstance(a, list | tuple | dict | set | str)))
            return function.call(*args)
        raise CheckpointError(f"the pickle calls a {type(function).__name__}")

    def memoize(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def integer(self, size: int) -> int:
        if not 0 <= size <= _MAX_INTEGER_BYTES:
            raise CheckpointError(f"the pickle holds an integer of {size} bytes")
        return int.from_bytes(self.take(size), "little", signed=True)

    def text_integer(self) -> int | bool:
        text = self.line().removesuffix("L")
        if len(text) > 2 * _MAX_INTEGER_BYTES:
            raise CheckpointError(f"the pickle holds an integer of {len(text)} digits")
        return text == "01" if text in ("00", "01") else int(text)

    def set_items(self, target: Any, items: list[Any]) -> None:
        if len(items) % 2:
            raise CheckpointError("the pickle holds a key without a value")
        if isinstance(target, Record):
            return  # a dictionary subclass of an unknown package: its items are not needed
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[as_key(key)] = value

    def extend(self, items: list[Any]) -> None:
        target = self.top(list, Record)
        if isinstance(target, list):
            target.extend(items)

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Record):  # else attributes hung on a container: `_metadata`
            target.state = state

    def reduce(self) -> None:
        args = self.pop()
        self.push(self.call(self.pop(), args))

    def new_with_keywords(self) -> None:
        self.pop()  # the keyword arguments; no class that takes any is on the list
        self.reduce()

    def stack_global(self) -> None:
        name = self.pop()
        self.push(self.find(self.pop(), name))

    def object_from_mark(self) -> None:
        cls, *args = self.pop_to_mark()
        self.push(self.call(cls, tuple(args)))

    def instance_from_line(self) -> None:
        cls = self.find(self.line(), self.line())
        self.push(self.call(cls, tuple(self.pop_to_mark())))

    def last(self, n: int) -> tuple:
        items = [self.pop() for _ in range(n)]
        return tuple(reversed(items))

    def pop_any(self) -> None:
        self.stack.pop()

    def empty_set(self) -> None:
        self.spend(3)  # a set takes as much room as four lists
        self.push(set())

    def add_to_set(self) -> None:
        items = self.pop_to_mark()
        self.top(set).update(as_key(item) for item in items)

    def set_one(self) -> None:
        pair = self.last(2)
        self.set_items(self.top(dict, Record), list(pair))

    def dict_from_mark(self) -> None:
        items = self.pop_to_mark()
        self.push({})
        self.set_items(self.stack[-1], items)

    def set_many(self) -> None:
        items = self.pop_to_mark()
        self.set_items(self.top(dict, Record), items)


def _text(machine: _Machine, size: int, encoding: str = "utf-8") -> None:
    machine.spend(1)  # text has a larger head than a list, more so outside ASCII
    machine.push(machine.take(size).decode(encoding, "surrogatepass"))


_OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"(": lambda m: m.push(_MARK),
    b"0": _Machine.pop_any,
    b"1": lambda m: m.pop_to_mark(),
    b"2": lambda m: m.push(m.stack[-1]),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(m.text_integer()),
    b"L": lambda m: m.push(m.text_integer()),
    b"J": lambda m: m.push(m.number("i")),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("H")),
    b"\x8a": lambda m: m.push(m.integer(m.number("B"))),
    b"\x8b": lambda m: m.push(m.integer(m.number("i"))),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"V": lambda m: m.push(m.line().encode().decode("raw-unicode-escape")),
    b"X": lambda m: _text(m, m.number("I")),
    b"\x8c": lambda m: _text(m, m.number("B")),
    b"\x8d": lambda m: _text(m, m.number("Q")),
    b"T": lambda m: _text(m, m.number("i"), "latin1"),
    b"U": lambda m: _text(m, m.number("B"), "latin1"),
    b"B": lambda m: m.push(m.take(m.number("I"))),
    b"C": lambda m: m.push(m.take(m.number("B"))),
    b"\x8e": lambda m: m.push(m.take(m.number("Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("Q"))),  # BYTEARRAY8, as bytes
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x8f": _Machine.empty_set,
    b"l": lambda m: m.push(m.pop_to_mark()),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"d": _Machine.dict_from_mark,
    b"\x91": lambda m: m.push(frozenset(make_set(m.pop_to_mark()))),
    b"\x85": lambda m: m.push(m.last(1)),
    b"\x86": lambda m: m.push(m.last(2)),
    b"\x87": lambda m: m.push(m.last(3)),
    b"a": lambda m: m.extend([m.pop()]),
    b"e": lambda m: m.extend(m.pop_to_mark()),
    b"s": _Machine.set_one,
    b"u": _Machine.set_many,
    b"\x90": _Machine.add_to_set,
    b"p": lambda m: m.memoize(int(m.line()[:20])),
    b"q": lambda m: m.memoize(m.number("B")),
    b"r": lambda m: m.memoize(m.number("I")),
    b"\x94": lambda m: m.memoize(len(m.memo)),
    b"g": lambda m: m.push(m.memo[int(m.line()[:20])]),
    b"h": lambda m: m.push(m.memo[m.number("B")]),
    b"j": lambda m: m.push(m.memo[m.number("I")]),
    b"c": lambda m: m.push(m.find(m.line(), m.line())),
    b"\x93": _Machine.stack_global,
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,  # NEWOBJ: class and arguments, in the same order
    b"\x92": _Machine.new_with_keywords,
    b"o": _Machine.object_from_mark,
    b"i": _Machine.instance_from_line,
    b"b": _Machine.build,
    b"Q": lambda m: m.push(m.persistent_load(m.pop())),
}
