"""Where the uncompressed entries of a zip archive lie, checked before a byte of them is touched.

PyTorch stores its entries uncompressed, so that they can be memory-mapped. Only that is accepted:
a compressed entry (the stuff of zip bombs), two entries over the same bytes, a size that lies or a
position outside the file end in an error. Format: PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16.
"""

import mmap
import struct

from dg2_jax.interop.pickle_values import CheckpointError

_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT = 65535
_MAX_ENTRIES = 100_000
_BIG = 0xFFFFFFFF


def entries(data: mmap.mmap | bytes) -> dict[str, tuple[int, int]]:
    """Name of each entry of the archive `data`: the (offset, size) of its contents.

    Raises:
        CheckpointError: not a zip archive, damaged, or with entries that are not plainly stored.
    """
    try:
        return _entries(data)
    except (struct.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"damaged zip archive: {error}") from error


def _entries(data: mmap.mmap | bytes) -> dict[str, tuple[int, int]]:
    count, size, position = _find_directory(data)
    end = position + size
    if end > len(data):
        raise CheckpointError("the zip directory lies outside the file")
    if count > _MAX_ENTRIES:
        raise CheckpointError(f"the zip archive claims {count} entries")
    files: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        name, contents, position = _central_entry(data, position, end)
        if name in files:
            raise CheckpointError(f"the zip archive has two entries named {name!r}")
        files[name] = contents
    _check_overlap(files)
    return files


def _find_directory(data: mmap.mmap | bytes) -> tuple[int, int, int]:
    """(number of entries, bytes, offset) of the central directory."""
    start = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - _MAX_COMMENT))
    if start < 0 or start + _END.size > len(data):
        raise CheckpointError("truncated zip archive: its directory is missing")
    _, disk, start_disk, _, count, size, offset, _ = _END.unpack_from(data, start)
    if disk or start_disk:
        raise CheckpointError("the zip archive spans several files")
    locator = start - _END64_LOCATOR.size
    if locator >= 0 and data[locator : locator + 4] == b"PK\x06\x07":
        _, _, start64, _ = _END64_LOCATOR.unpack_from(data, locator)
        if start64 + _END64.size > len(data) or data[start64 : start64 + 4] != b"PK\x06\x06":
            raise CheckpointError("damaged zip archive: its zip64 directory is missing")
        *_, count, size, offset = _END64.unpack_from(data, start64)
    return count, size, offset


def _central_entry(
    data: mmap.mmap | bytes, position: int, end: int
) -> tuple[str, tuple[int, int], int]:
    """(name, (offset, size), position of the next entry)."""
    if position + _CENTRAL.size > end:
        raise CheckpointError("the zip directory ends early")
    (signature, _, _, flags, method, _, _, _, packed, size, *lengths, _, _, _, header) = (
        _CENTRAL.unpack_from(data, position)
    )
    name_length, extra_length, comment_length = lengths
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_length
    following = extra_at + extra_length + comment_length
    if signature != b"PK\x01\x02" or following > end:
        raise CheckpointError("damaged zip directory")
    name = bytes(data[name_at:extra_at]).decode("utf-8")
    extra = bytes(data[extra_at : extra_at + extra_length])
    size, packed, header = _with_zip64(size, packed, header, extra)
    if flags & 1:
        raise CheckpointError(f"the zip entry {name!r} is encrypted")
    if method != 0 or packed != size:
        raise CheckpointError(
            f"the zip entry {name!r} is compressed ({packed} bytes for {size}); PyTorch stores its "
            "entries uncompressed"
        )
    if header + _LOCAL.size > len(data) or data[header : header + 4] != b"PK\x03\x04":
        raise CheckpointError(f"the zip entry {name!r} lies outside the file")
    *_, local_name_length, local_extra_length = _LOCAL.unpack_from(data, header)
    offset = header + _LOCAL.size + local_name_length + local_extra_length
    if offset + size > len(data):
        raise CheckpointError(
            f"the zip entry {name!r} claims {size} bytes, more than the file has left"
        )
    return name, (offset, size), following


def _with_zip64(size: int, packed: int, header: int, extra: bytes) -> tuple[int, int, int]:
    """The three fields, those that are saturated taken from the zip64 extra field (id 1)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = iter(
                struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4)
            )
            fields = [next(values, v) if v == _BIG else v for v in (size, packed, header)]
            return fields[0], fields[1], fields[2]
        at += 4 + length
    return size, packed, header


def _check_overlap(files: dict[str, tuple[int, int]]) -> None:
    last = 0
    for name, (offset, size) in sorted(files.items(), key=lambda item: item[1]):
        if offset < last:
            raise CheckpointError(f"the zip entry {name!r} lies over another entry")
        last = offset + size
