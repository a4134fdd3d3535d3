"""Checks of values that come from outside, and the one error they raise.

>>> check_int("num_images", 0, 1, 256)
Traceback (most recent call last):
dg2_jax.checks.ParameterError: num_images must be an integer from 1 to 256, got 0
"""

import contextlib
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


class ParameterError(ValueError):
    """A parameter whose value is not allowed.

    Attributes:
        name: of the parameter, dotted where it is nested, such as "optim.learning_rate".
        problem: what is wrong and what is allowed, the rest of a sentence that starts with `name`.
    """

    def __init__(self, name: str, problem: str):
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"


def check(condition: bool, name: str, allowed: str, value: object) -> None:
    """Raises ParameterError, "<name> must be <allowed>, got <value>", unless `condition` holds."""
    if not condition:
        raise ParameterError(name, f"must be {allowed}, got {shown(value)}")


def shown(value: object) -> str:
    """A value for a message, cut short where it is long."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python does not write integers of thousands of digits
        return "a number of too many digits"


@contextlib.contextmanager
def naming(source: object) -> Iterator[None]:
    """Makes a ValueError raised within begin with `source`, a path, unless it names it already."""
    try:
        yield
    except ValueError as error:
        if str(source) in str(error):
            raise
        raise ValueError(f"{source}: {error}") from error


def check_int(name: str, value: Any, low: int, high: int) -> None:
    """Raises ParameterError unless `value` is an integer from `low` to `high`, not a bool."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    check(whole and bool(low <= value <= high), name, f"an integer from {low} to {high}", value)


def check_real(name: str, value: Any, low: float, high: float) -> None:
    """Raises ParameterError unless `value` is a finite number from `low` to `high`."""
    real = isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)
    check(real and bool(low <= value <= high), name, f"a number from {low} to {high}", value)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises ParameterError unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        allowed = ", ".join(map(str, choices))
        raise ParameterError(name, f"must be one of {allowed}; got {shown(value)}")
