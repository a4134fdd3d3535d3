"""Settings that are lists, written as one text: in a variable, as a flag, in Python."""

import pytest

from dg2_jax.serve import command_line
from dg2_jax.serve.server_settings import ServerSettings


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pictures.example.org", ["pictures.example.org"]),
        (" a, b ,", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[::1]", ["[::1]"]),
        ("", []),
    ],
)
@pytest.mark.parametrize("name", ["allowed_hosts", "allowed_origins"])
def test_names(monkeypatch, name, text, names):
    flag = f"--{name.replace('_', '-')}={text}"
    assert getattr(command_line.settings("dg2 serve", "", [flag]), name) == names
    monkeypatch.setenv(f"DG2_{name.upper()}", text)
    assert getattr(ServerSettings(), name) == names
    assert getattr(ServerSettings(**{name: names}), name) == names


def test_a_wrong_size_is_named(monkeypatch, capsys):
    monkeypatch.setenv("DG2_SIZES", "160x96, 96")
    with pytest.raises(SystemExit):
        command_line.settings("dg2 serve", "", [])
    assert "error: sizes.1" in capsys.readouterr().err
