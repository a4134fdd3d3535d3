"""The last few of what is costly to make, by key."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def recall(kept: OrderedDict[Key, Value], key: Key, make: Callable[[], Value], most: int) -> Value:
    """The value of a key, made if it is not kept; the values used longest ago are let go.

    >>> kept = OrderedDict()
    >>> [recall(kept, key, key.upper, 2) for key in ("a", "b", "a", "c")], list(kept)
    (['A', 'B', 'A', 'C'], ['a', 'c'])

    Args:
        kept: the values so far, the last used one last; changed.
        key: of the value.
        make: makes it; if that fails nothing changes.
        most: values to keep, at least 1.
    """
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]
