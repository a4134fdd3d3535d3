r"""Wildcards: parts of a prompt that are drawn anew for every image.

    a lake in __season__        a line of the list "season", which is the file season.txt
    a {calm|stormy} lake        one of the texts
    \{ \} \| \__                the characters themselves

Lines and texts may hold wildcards in turn. A draw depends on the image's seed and on nothing else,
so that an image is the same in any batch; what was drawn is the prompt that its settings record.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from dg2_jax.checks import ParameterError
from dg2_jax.controls.values import Text

SHIPPED = Path(__file__).parent / "wildcard_lists"
MAX_DRAWS = 100  # of a prompt

_TAG = r"<lora:[^<>]*>"  # whose names are none
_LIST = r"(?<!\\)__([A-Za-z0-9](?:_?[A-Za-z0-9/. -])*)__"
_CHOICE = r"(?<!\\)\{((?:\\.|[^{}|\\])*\|(?:\\.|[^{}\\])*)\}"  # innermost: no braces inside
_WILDCARD = re.compile(f"{_TAG}|{_LIST}|{_CHOICE}")
_NAMED = re.compile(f"{_TAG}|{_LIST}")


def _found(prompts: Iterable[str], what: re.Pattern[str] = _WILDCARD) -> list[re.Match[str]]:
    return [found for text in prompts for found in what.finditer(text) if found.lastindex]


def refuse(prompts: Iterable[str], parameter: str) -> None:
    """Raises ParameterError of the parameter if one of its texts holds a wildcard."""
    for match in _found(prompts):
        raise ParameterError(
            parameter,
            f"must not hold wildcards, which are drawn for each image, such as "
            f"{match.group()!r:.80}; the characters themselves are written \\{{ and \\__",
        )


class Wildcards:
    """The lists that come with the library, and those of a folder, by name.

    A file's path in the folder without `.txt` is its name. Empty lines, and those that start with
    #, are left out. Files are read when they are drawn from, so that changes act at once.
    """

    def __init__(self, folder: str | Path | None = None):
        """A folder of lists, which come before those of the library of the same names; or None."""
        self._folders = [SHIPPED, *([Path(folder).expanduser()] if folder is not None else [])]

    def lists(self) -> dict[str, Path]:
        """The files by name."""
        return {
            path.relative_to(folder).with_suffix("").as_posix(): path
            for folder in self._folders
            for path in sorted(folder.rglob("*.txt"))
        }

    def check(self, prompts: Iterable[str], parameter: str) -> None:
        """Raises ParameterError, naming those there are, unless the lists that are named exist."""
        for match in _found(prompts, _NAMED):
            self._path(match[1], parameter)

    def drawn(self, prompt: str, seed: int, parameter: str = "prompt") -> str:
        """A prompt with its wildcards drawn.

        Args:
            prompt: as written by the user.
            seed: of the image.
            parameter: of the call, for the messages; each has draws of its own.

        Raises:
            ParameterError: a list is missing, empty or not UTF-8; lists name each other without
                end; or the prompt becomes too long.

        >>> Wildcards().drawn("a {calm|stormy} lake in __season__", seed=7)
        'a calm lake in spring'
        """
        for draw in range(MAX_DRAWS):
            if not (found := _found([prompt])):
                return prompt
            name, texts = found[0].groups()
            choices = self._lines(name, parameter) if name else re.split(r"(?<!\\)\|", texts)
            chosen = choices[_number(f"{parameter} {seed} {draw}", len(choices))]
            start, end = found[0].span()
            prompt = Text().checked(parameter, prompt[:start] + chosen.strip() + prompt[end:])
        raise ParameterError(parameter, f"must hold fewer than {MAX_DRAWS} wildcards in all")

    def _path(self, name: str, parameter: str) -> Path:
        known = self.lists()
        if name not in known:
            raise ParameterError(
                parameter,
                f"names the wildcard {name!r:.80}, but there are {', '.join(known)}; "
                "the characters themselves are written \\__",
            )
        return known[name]

    def _lines(self, name: str, parameter: str) -> list[str]:
        path = self._path(name, parameter)
        try:
            lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(parameter, f"names the wildcard {name!r}, but {error}") from error
        kept = [line for line in lines if line and not line.startswith("#")]
        if not kept:
            raise ParameterError(parameter, f"names the wildcard {name!r}, whose list is empty")
        return kept


def _number(what: str, count: int) -> int:
    """A number below `count` that depends on a text alone."""
    digest = hashlib.sha256(what.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count
