"""The values that a control may have: their check, their spelling as text, their description."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from dg2_jax.checks import ParameterError, check, check_choice, check_int, check_real


@runtime_checkable
class Values(Protocol):
    """The values that a control may have."""

    @property
    def name(self) -> str:
        """The name of the type in `GET /options`."""

    @property
    def python(self) -> Any:
        """The type in Python."""

    def checked(self, name: str, value: Any) -> Any:
        """`value` in its plain form.

        Raises:
            ParameterError: it is not one of the values.
        """

    def parse(self, text: str) -> Any:
        """The value a text from the command line or a form stands for, unchecked."""

    def describe(self) -> dict[str, Any]:
        """Type and bounds as plain data."""


@dataclass(frozen=True)
class Integer:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int
    name: ClassVar[str] = "integer"
    python: ClassVar[Any] = int

    def checked(self, name: str, value: Any) -> int:
        """See `Values`."""
        check_int(name, value, self.low, self.high)
        return int(value)

    def parse(self, text: str) -> Any:
        """See `Values`."""
        return _number(text, int)

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        return {"type": self.name, "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Real:
    """Finite numbers from `low` to `high`."""

    low: float
    high: float
    name: ClassVar[str] = "number"
    python: ClassVar[Any] = float

    def checked(self, name: str, value: Any) -> float:
        """See `Values`."""
        check_real(name, value, self.low, self.high)
        return float(value)

    def parse(self, text: str) -> Any:
        """See `Values`."""
        return _number(text, float)

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        return {"type": self.name, "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Boolean:
    """True or false."""

    name: ClassVar[str] = "boolean"
    python: ClassVar[Any] = bool

    def checked(self, name: str, value: Any) -> bool:
        """See `Values`."""
        check(isinstance(value, bool), name, "true or false", value)
        return value

    def parse(self, text: str) -> Any:
        """See `Values`."""
        return {"true": True, "false": False}.get(text.lower(), text)

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        return {"type": self.name}


@dataclass(frozen=True)
class Choice:
    """One of a few values: all of them texts, or all of them integers."""

    choices: tuple[Any, ...]
    name: ClassVar[str] = "choice"

    @property
    def python(self) -> Any:
        """See `Values`."""
        return type(self.choices[0]) if self.choices else str

    def checked(self, name: str, value: Any) -> Any:
        """See `Values`."""
        known = type(value) is self.python and value in self.choices  # 2.0 and True equal integers
        check(known, name, f"one of {', '.join(map(str, self.choices))}", value)
        return value

    def parse(self, text: str) -> Any:
        """See `Values`."""
        return next((choice for choice in self.choices if str(choice) == text), text)

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        return {"type": self.name, "choices": list(self.choices)}


@dataclass(frozen=True)
class Text:
    """A text of at most `length` characters."""

    length: int = 4000
    name: ClassVar[str] = "text"
    python: ClassVar[Any] = str

    def checked(self, name: str, value: Any) -> str:
        """See `Values`."""
        check(isinstance(value, str), name, "a text", value)
        if len(value) > self.length:
            raise ParameterError(name, f"must have at most {self.length} characters")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ParameterError(name, "must not contain NUL or lone surrogates")
        return value

    def parse(self, text: str) -> str:
        """See `Values`."""
        return text

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        return {"type": self.name, "maximum": self.length}


@dataclass(frozen=True)
class Texts:
    """At most `count` texts of at most `length` characters."""

    count: int
    length: int
    name: ClassVar[str] = "texts"
    python: ClassVar[Any] = tuple[str, ...]

    def checked(self, name: str, value: Any) -> tuple[str, ...]:
        """See `Values`."""
        fits = isinstance(value, list | tuple) and len(value) <= self.count
        check(fits, name, f"at most {self.count} texts", value)
        return tuple(Text(self.length).checked(name, text) for text in value)

    def parse(self, text: str) -> tuple[str, ...]:
        """See `Values`."""
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        return {"type": self.name, "maximum": self.length, "length": self.count}


@dataclass(frozen=True)
class Numbers:
    """`length` numbers, each one of `item`."""

    item: Integer | Real
    length: int

    @property
    def name(self) -> str:
        """See `Values`."""
        return self.item.name + "s"

    @property
    def python(self) -> Any:
        """See `Values`."""
        return tuple[(self.item.python,) * self.length]  # type: ignore[misc]

    def checked(self, name: str, value: Any) -> tuple:
        """See `Values`."""
        fits = isinstance(value, list | tuple) and len(value) == self.length
        check(fits, name, f"{self.length} numbers", value)
        return tuple(self.item.checked(name, number) for number in value)

    def parse(self, text: str) -> Any:
        """See `Values`."""
        return tuple(self.item.parse(part) for part in text.split(","))

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        return {**self.item.describe(), "type": self.name, "length": self.length}


@dataclass(frozen=True)
class Pairs:
    """`low` to `high` pairs of a text and one of `choices`."""

    low: int
    high: int
    choices: tuple[str, ...]
    name: ClassVar[str] = "pairs"
    python: ClassVar[Any] = Sequence[tuple[str, str]]

    def checked(self, name: str, value: Any) -> tuple:
        """See `Values`."""
        allowed = f"{self.low} to {self.high} pairs (prompt, view)"
        fits = isinstance(value, list | tuple) and self.low <= len(value) <= self.high
        check(fits, name, allowed, value)
        for pair in value:
            fits = isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
            check(fits, name, allowed, pair)
            check_choice(name, pair[1], self.choices)
        return tuple((text, choice) for text, choice in value)

    def parse(self, text: str) -> Any:
        """Pairs "text:choice" with "|" between them."""
        pairs = (part.rpartition(":") for part in text.split("|"))
        return tuple((prompt.strip(), view.strip()) for prompt, _, view in pairs)

    def describe(self) -> dict[str, Any]:
        """See `Values`."""
        choices = list(self.choices)
        return {"type": self.name, "minimum": self.low, "maximum": self.high, "choices": choices}


def _number(text: str, kind: type) -> Any:
    """The number in a text, or the text itself for the check to refuse."""
    try:
        return kind(text)
    except ValueError:
        return text
