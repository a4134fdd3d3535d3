"""WebDataset: tar files in which the files of one key, `key.jpg` and `key.txt`, are one example."""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dg2_jax.data.sources import captions
from dg2_jax.data.sources.interface import SUFFIXES, Picture
from dg2_jax.data.text_files import decode, lines
from dg2_jax.interop import file_kinds

_TEXTS = (".txt", ".json")


class _Part(NamedTuple):
    """Where a file's content lies in its tar file."""

    name: str
    offset: int
    size: int

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).with_suffix("").as_posix()


class _Example(NamedTuple):
    tar: Path
    name: str
    picture: _Part
    texts: Sequence[_Part]


class TarPictures:
    """The pictures of tar files, in their order; see `PictureSource`.

    The captions are the lines of `key.txt`, and `caption`, `captions` or `text` in `key.json`
    where there are none. A key that is repeated with another picture is another example.
    """

    attributes: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, root: Path, files: Sequence[Path], caption_key: str = ""):
        """Reads the headers of the tar files, and none of their contents.

        Raises:
            ValueError: one is damaged or compressed; the error names it and the last good file.
        """
        self.description = f"webdataset {root.name}"
        self._root, self._caption_key = root, caption_key
        self._tars = [file for file in files if file.suffix.lower() == ".tar"]
        ignored = Counter(f.suffix.lower() for f in files if f.suffix.lower() != ".tar")
        self._examples = [
            example for tar in self._tars for example in _examples(tar, _parts(tar, ignored))
        ]
        self.ignored: Mapping[str, int] = ignored

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Picture:
        example = self._examples[index]
        with example.tar.open("rb") as file:

            def content(part: _Part) -> bytes:
                file.seek(part.offset)
                return file.read(part.size)

            def of_texts(suffix: str) -> tuple[str, ...]:
                return captions.without_repeats(
                    caption
                    for part in example.texts
                    if part.suffix == suffix
                    for caption in self._captions(part, decode(content(part), part.name))
                )

            texts = of_texts(".txt") or of_texts(".json")
            return Picture(self.name(index), content(example.picture), texts)

    def name(self, index: int) -> str:
        """Of the picture at `index`."""
        tar, name, *_ = self._examples[index]
        shown = tar.name if tar == self._root else tar.relative_to(self._root).as_posix()
        return f"{shown}/{name}"

    def fingerprint(self) -> str:
        """Changes when the files do."""
        return json.dumps([(tar.name, tar.stat().st_size) for tar in self._tars])

    def _captions(self, part: _Part, text: str) -> tuple[str, ...]:
        if part.suffix == ".txt":
            return captions.checked(lines(text))
        try:
            record = captions.parse_json(text)
        except ValueError as error:
            raise ValueError(f"{part.name} must be JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{part.name} must hold an object")
        return captions.of_record(record, self._caption_key)


def _parts(tar: Path, ignored: Counter[str]) -> list[_Part]:
    """The pictures and texts of a tar file, in order; other files are counted in `ignored`."""
    parts = []
    name = ""
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isfile() or path.name.startswith("."):
                    continue
                name = member.name
                if path.suffix.lower() in (*SUFFIXES, *_TEXTS):
                    parts.append(_Part(path.as_posix(), member.offset_data, member.size))
                else:
                    ignored[path.suffix.lower()] += 1
            # Where a file is cut off within a header, tarfile takes that for the end of the
            # archive.
            with tar.open("rb") as file:
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, EOFError) as error:
        file_kinds.refuse_other(tar, "tar")
        after = f" after {name}" if name else ""
        raise ValueError(f"source: {tar} is damaged{after}: {error}") from error
    return parts


def _examples(tar: Path, parts: Sequence[_Part]) -> Iterator[_Example]:
    """The examples of a tar file: each picture with the texts that belong to it.

    These are the texts with its name. WebDataset's own keys end at the first dot of a name, so
    a.txt also belongs to a.left.png, and a.caption.txt to a.png, if these have no text of their
    own.
    """
    loose: dict[str, list[_Part]] = {}
    of_stem: dict[str, list[_Part]] = {}
    for part in parts:
        of_stem.setdefault(part.stem, []).append(part)
    by_stem = {stem: _groups(named) for stem, named in of_stem.items()}
    for stem, groups in by_stem.items():
        if not groups[0].pictures:
            loose.setdefault(_key(stem), []).extend(groups[0].texts)
    for stem, groups in by_stem.items():
        key = _key(stem)
        borrowed = [part for part in loose.get(key, ()) if key in (stem, part.stem)]
        pictures = [(p, group.texts or borrowed) for group in groups for p in group.pictures]
        for number, (picture, texts) in enumerate(pictures, start=1):
            name = stem if number == 1 else f"{stem} ({number})"
            yield _Example(tar, name, picture, texts)


class _Group(NamedTuple):
    pictures: list[_Part]
    texts: list[_Part]


def _groups(parts: Sequence[_Part]) -> list[_Group]:
    """The files of one name in groups, each with a picture: a repeated suffix begins a new group.

    Without any picture there is a single group.
    """
    groups = [_Group([], [])]
    suffixes: set[str] = set()
    for part in parts:
        if part.suffix in suffixes and groups[-1].pictures:
            groups.append(_Group([], []))
            suffixes = set()
        suffixes.add(part.suffix)
        kind = groups[-1].texts if part.suffix in _TEXTS else groups[-1].pictures
        kind.append(part)
    if len(groups) > 1 and not groups[-1].pictures:
        groups[-2].texts.extend(groups.pop().texts)
    return groups


def _key(stem: str) -> str:
    """WebDataset's key: up to the first dot of the file's name."""
    path = PurePosixPath(stem)
    return path.with_name(path.name.partition(".")[0]).as_posix()
