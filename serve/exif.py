"""Settings in JPEG and WebP pictures: a text in EXIF's UserComment, where other tools have it."""

from PIL import Image

_IFD, _USER_COMMENT = 0x8769, 0x9286
_UNICODE, _ASCII, _UNDEFINED = b"UNICODE\0", b"ASCII\0\0\0", bytes(8)
_LONGEST = 65_000  # bytes; JPEG has room for 65,533 of EXIF in all


def of_text(text: str) -> bytes:
    """An EXIF block with a text; empty for none and for one that is too long for it."""
    comment = _UNICODE + text.encode("utf-16-be", "replace")
    if not text or len(comment) > _LONGEST:
        return b""
    exif = Image.Exif()
    exif.get_ifd(_IFD)[_USER_COMMENT] = comment
    return exif.tobytes()


def text_of(picture: Image.Image) -> str | None:
    """The text in a picture's UserComment, None where there is none or it cannot be read."""
    try:
        comment = picture.getexif().get_ifd(_IFD).get(_USER_COMMENT)
    except Exception:  # Pillow raises nearly anything on damaged blocks
        return None
    if isinstance(comment, str):
        return comment or None
    if not isinstance(comment, bytes):
        return None
    code, content = comment[:8], comment[8:]
    if code == _UNICODE:
        little = content.startswith(b"\xff\xfe") or (len(content) > 1 and not content[1])
        text = content.decode("utf-16-le" if little else "utf-16-be", "replace")
    elif code in (_ASCII, _UNDEFINED):
        text = content.decode("utf-8", "replace")
    else:
        return None
    return text.strip("\0\ufeff") or None
