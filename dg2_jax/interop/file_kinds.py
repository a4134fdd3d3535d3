"""What a file is by its first bytes, for errors that say what was given in place of a good file."""

import re
from pathlib import Path

HEAD = 1024  # bytes that `describe` looks at

_POINTER = "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"
_PAGE = "a web page (HTML), not the file itself: download it again by its direct address"
_SIGNATURES = (
    (b"version https://git-lfs.github.com/spec/", _POINTER),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"PK\x03\x04", "a zip archive, such as PyTorch's checkpoints are"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x80\x02", "a pickle, PyTorch's format before 1.6"),
)


def describe(head: bytes) -> str | None:
    """What a file is whose first `HEAD` bytes these are, after "it is"; None if that is unknown."""
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if not head:
        return "empty"
    if not head.strip(b"\0"):
        return "all zeros, a download that was never filled"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)", head, re.IGNORECASE):
        return _PAGE
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 10**9:
        return "a safetensors file"
    if re.match(rb'(\xef\xbb\xbf)?\s*[{\[]\s*["{}\[\]\d]', head):
        return "JSON"
    return None


def of_file(path: Path) -> str | None:
    """`describe` of a file; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return describe(file.read(HEAD))


def refuse_other(path: Path, expected: str, error: type[Exception] = ValueError) -> None:
    """Raises `error` where a file is known to be of another kind.

    Args:
        path: a file that could not be read as what it should be.
        expected: a word of that kind's description, and its name: "safetensors".
        error: the type to raise.
    """
    kind = of_file(path)
    if kind is not None and expected not in kind:
        raise error(f"{path} is no {expected} file: it is {kind}")
