"""Styles: named texts that are put around prompts, kept in one file of the data folder.

Several processes may share the folder: each reads the file anew when another has written it.
"""

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from dg2_jax.checks import ParameterError
from dg2_jax.serve.job_controls import CONTROLS

PLACE = "{prompt}"  # where in a style's text the prompt goes; without it, the style follows it


@dataclass(frozen=True)
class Style:
    """A named style.

    Attributes:
        name: by which jobs ask for it.
        prompt: the text around a prompt.
        negative_prompt: the text around a negative prompt.
    """

    name: str
    prompt: str = ""
    negative_prompt: str = ""


class Styles:
    """The styles of a server. Every change is on disk when its call returns."""

    def __init__(self, folder: Path):
        """Reads `styles.json` in the folder, if it is there.

        Raises:
            ValueError: the file is damaged; it is left as it is.
        """
        self._path = folder / "styles.json"
        self._lock = FileLock(folder / "styles.lock")
        self._stamp: tuple[int, int] | None = None
        self._read: dict[str, Style] = {}
        self.all()

    @property
    def _styles(self) -> dict[str, Style]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = status.st_mtime_ns, status.st_ino
        if stamp != self._stamp:
            try:
                rows = json.loads(self._path.read_text("utf-8"))
                self._read = {row["name"]: Style(**row) for row in rows}
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{self._path} is damaged: {error}") from error
            self._stamp = stamp
        return self._read

    def all(self) -> list[Style]:
        """All of them, by name."""
        return sorted(self._styles.values(), key=lambda style: style.name.casefold())

    def put(self, style: Style) -> bool:
        """Adds or replaces one; returns whether it is new.

        Raises:
            OSError: it could not be written; nothing has changed.
        """
        with self._lock:
            new = style.name not in self._styles
            self._write({**self._styles, style.name: style})
            return new

    def delete(self, name: str) -> bool:
        """Deletes one; returns whether it was there; errors as of `put`."""
        with self._lock:
            if name not in self._styles:
                return False
            self._write({key: one for key, one in self._styles.items() if key != name})
            return True

    def applied(self, prompt: str, negative_prompt: str, names: Sequence[str]) -> tuple[str, str]:
        """A prompt and a negative prompt with styles around them, in their order.

        Raises:
            ParameterError: there is no style of a name, or a prompt becomes too long.
        """
        styles = self._styles
        for name in names:
            if name not in styles:
                there = ", ".join(style.name for style in self.all()) or "none"
                raise ParameterError("styles", f"must be stored styles: {there}; got {name!r:.80}")
            style = styles[name]
            prompt = CONTROLS["prompt"].checked(_around(style.prompt, prompt))
            negative_prompt = _around(style.negative_prompt, negative_prompt)
            CONTROLS["negative_prompt"].checked(negative_prompt)
        return prompt, negative_prompt

    def _write(self, styles: dict[str, Style]) -> None:
        temporary = self._path.with_name(f".styles.{secrets.token_hex(4)}")
        try:
            with temporary.open("x", encoding="utf-8") as file:
                json.dump([asdict(style) for style in styles.values()], file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)


def _around(style: str, text: str) -> str:
    if PLACE in style:
        return style.replace(PLACE, text)
    return ", ".join(part for part in (text.strip(), style.strip()) if part)
