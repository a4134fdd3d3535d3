"""Text files in the wild: with a byte-order mark, with any line endings."""

import codecs

_MARKS = {  # the longer first, since UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(content: bytes, name: str) -> str:
    """Decodes a text file: UTF-8, or the encoding its byte-order mark names.

    Raises:
        ValueError: it is neither; the message gives `name` and the line.
    """
    encoding = next((e for mark, e in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name} must be UTF-8, and its line {line} is not: {error}") from error


def lines(text: str) -> list[str]:
    r"""The lines of a file; U+2028 and other separators within a line are part of it.

    >>> lines("a lake\r\na forest\n")
    ['a lake', 'a forest']
    """
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
