"""Text files with byte-order marks and line ends of every kind."""

import pytest

from dg2_jax.bank.builder import read_prompts
from dg2_jax.data.text_files import decode, lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_text(encoding):
    assert decode("a lake, é".encode(encoding), "file") == "a lake, é"


def test_bytes_that_are_no_text_are_named_with_their_line():
    with pytest.raises(ValueError, match="captions must be UTF-8, and its line 3 is not"):
        decode(b"a\nb\nc\xe9d", "captions")


def test_lines_end_at_line_ends_only():
    assert lines("a\u2028b\x85c\r\n\r\nd\re\n") == ["a\u2028b\x85c", "", "d", "e"]


def test_the_bank_reads_prompts_with_a_byte_order_mark(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "lake.txt").write_bytes(b"\xef\xbb\xbfa lake\r\na pond\r\n")
    assert [entry.prompt for entry in read_prompts(tmp_path)] == ["a lake", "a pond"]
