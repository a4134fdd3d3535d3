"""What a part measures, written line by line, so that nothing is lost if its process dies."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_LONGEST_MESSAGE = 300  # characters; XLA's are pages


class Record:
    """The cases of a part, in a file of JSON lines.

    A case is a dict: what names it, then what was measured, or "error" with a message, or "skipped"
    with a reason.
    """

    def __init__(self, path: Path, seconds: float, clock: Callable[[], float] = time.monotonic):
        """Begins an empty file; no case begins that would end after `seconds`, by what others took.

        Args:
            path: the file.
            seconds: that the part may take.
            clock: in seconds.
        """
        self._path, self._clock = path, clock
        self._end = clock() + seconds
        self._longest = 0.0
        path.write_text("", "utf-8")

    def case(self, names: Mapping[str, Any], measure: Callable[..., Mapping], *args: Any) -> None:
        """Adds `measure(*args)` under these names; an exception becomes the case's error."""
        start = self._clock()
        if start + self._longest > self._end:
            self.add({**names, "skipped": "no time was left"})
            return
        try:
            values = json.loads(json.dumps(dict(measure(*args))))
        except Exception as error:  # of any kind: the other cases go on
            values = {"error": message(error)}
        self._longest = max(self._longest, self._clock() - start)
        self.add({**names, **values})

    def add(self, values: Mapping[str, Any]) -> None:
        """Adds a case that is measured."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The cases of a file, none if there is none; a line that was cut off is left out."""
    if not path.is_file():
        return []
    cases = []
    for line in path.read_text("utf-8").splitlines():
        try:
            cases.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return cases


def message(error: BaseException) -> str:
    """The kind of an error and the beginning of its message, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST_MESSAGE]
