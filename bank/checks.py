"""Bad input gets one clear error that names the parameter."""

import numpy as np

from dg2_jax.bank.store import SPLITS
from dg2_jax.checks import ParameterError

_REAL = (int, float, np.integer, np.floating)
_LONGEST = 4000  # characters of a prompt


def prompt(name: str, value: object) -> str:
    """A string that is not blank, of at most 4000 characters."""
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST:
        problem = f"must be a string of 1 to {_LONGEST} characters, not {value!r:.80}"
        raise ParameterError(name, problem)
    return value


def split(name: str, value: object) -> None:
    """A split's name."""
    if value not in SPLITS:
        raise ParameterError(name, f"must be one of {', '.join(SPLITS)}, not {value!r:.80}")


def category(value: object) -> str:
    """A category's name as banks spell it: lower case, spaces."""
    if not isinstance(value, str) or not (name := value.replace("_", " ").strip().lower()):
        raise ParameterError("category", f"must be a name, not {value!r:.80}")
    if len(name) > 100 or not name.isprintable():
        problem = f"must have at most 100 printable characters, not {value!r:.80}"
        raise ParameterError("category", problem)
    return name


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """A whole number in low..high."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ParameterError(name, f"must be a whole number, not {value!r:.80}")
    if value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"in {low}..{high}"
        raise ParameterError(name, f"must be {allowed}, not {value}")
    return int(value)


def number(name: str, value: object, low: float, high: float) -> None:
    """A number in low..high."""
    if isinstance(value, bool) or not isinstance(value, _REAL) or not low <= value <= high:
        raise ParameterError(name, f"must be a number in {low}..{high}, not {value!r:.80}")


def vectors(name: str, value: np.ndarray, shape: tuple[int, int]) -> None:
    """Finite vectors of this shape."""
    if value.shape != shape or not np.isfinite(value).all():
        raise ParameterError(name, f"must be finite vectors of shape {shape}, not {value.shape}")
