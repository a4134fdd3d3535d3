"""Traced programs are read again where nothing has changed, and a bad file does no harm."""

import dataclasses
import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax import program_cache

traced = []  # the factors with which `scaled` was traced


class Scaled(NamedTuple):
    value: Any
    parts: tuple
    keys: Any


def unchanged(x):
    return x


def negated(x):
    return -x


@dataclasses.dataclass(frozen=True)
class Factor:
    factor: float
    applied: Any = unchanged


def scaled(static: Factor, tree: Any, keys: Any) -> Scaled:
    traced.append(static.factor)
    if static.factor < 0:
        raise ValueError("factor must not be negative")
    values, counts = tree
    noise = jax.random.normal(keys[0], values["a"].shape)
    value = static.factor * static.applied(values["a"]) + noise
    return Scaled(value, ({"b": counts[7] + 1}, None), keys)


KEYS = jax.vmap(jax.random.key)(jnp.arange(2, dtype=jnp.uint32))
VALUES, COUNTS = {"a": np.arange(3, dtype=np.float32)}, {7: np.int32(1)}


def run(static: Any = Factor(2.0), tree: Any = (VALUES, COUNTS)) -> tuple[Scaled, int]:
    """The result in a new trace, as in another process, and how often Python was run for it."""
    traced.clear()
    result = jax.jit(program_cache.kept(scaled), static_argnums=0)(static, tree, KEYS)
    return result, len(traced)


@pytest.fixture
def folder(tmp_path):
    before = program_cache._folder
    program_cache.enable(tmp_path / "traced")
    yield tmp_path / "traced"
    program_cache.enable(before)


def expected():
    program_cache.enable(None)
    return run()[0]


def same(actual, wanted):
    assert isinstance(actual, Scaled)
    assert jax.tree.structure(actual) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_array_equal(a, b)


def test_a_second_trace_runs_no_python(folder):
    first, times = run()
    assert times == 1
    again, times = run()
    assert times == 0
    same(again, first)
    same(first, expected())


@pytest.mark.parametrize(
    "change",
    [
        {"static": Factor(3.0)},
        {"static": Factor(2.0, negated)},
        {"tree": ({"a": np.ones(4, np.float32)}, COUNTS)},
        {"tree": ({"a": np.ones(3, np.float16)}, COUNTS)},
        {"tree": (VALUES, {7: 1})},  # of weak type
        {"tree": (VALUES, {**COUNTS, 8: np.int32(1)})},
    ],
    ids=["static", "function", "shape", "dtype", "weak type", "structure"],
)
def test_other_arguments_are_traced(folder, change):
    run()
    assert run(**change)[1] == 1
    assert run(**change)[1] == 0
    assert len(list(folder.iterdir())) == 2


def test_another_source_is_traced(folder, monkeypatch):
    run()
    monkeypatch.setattr(program_cache, "_versions", lambda: ("another source",))
    assert run()[1] == 1
    assert run()[1] == 0


def test_a_setting_of_jax_is_part_of_the_name(folder):
    run()
    with jax.default_matmul_precision("highest"):
        assert run()[1] == 1
        assert run()[1] == 0
    assert run()[1] == 0


@pytest.mark.parametrize("damage", ["emptied", "halved", "noise", "of another", "a folder"])
def test_a_damaged_file_is_made_anew(folder, damage, caplog):
    first, _ = run()
    (file,) = folder.iterdir()
    data = file.read_bytes()
    run(Factor(5.0))
    other = next(path for path in folder.iterdir() if path != file)
    bad = {
        "emptied": b"", "halved": data[: len(data) // 2], "noise": os.urandom(len(data)),
        "of another": other.read_bytes(),
    }  # fmt: skip
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(bad[damage])
    caplog.set_level("INFO", program_cache.__name__)
    again, times = run()
    assert times > 0
    same(again, first)
    assert str(file) in caplog.text
    if damage != "a folder":
        assert file.read_bytes() == data
        assert run()[1] == 0


def test_a_program_that_this_jax_does_not_read_is_made_anew(folder):
    first, _ = run()
    (file,) = folder.iterdir()
    program_cache._write(file, b"[]\nfrom another version of JAX")
    again, times = run()
    assert times == 1
    same(again, first)
    assert run()[1] == 0


def test_what_no_text_describes_is_traced_each_time(folder):
    for _ in range(2):
        assert run(Factor(2.0, lambda x: x))[1] == 1
    assert not folder.exists()


def shows(static, x):
    jax.debug.callback(lambda value: None, x)
    return x + static


def test_what_cannot_be_exported_is_traced(folder, caplog):
    caplog.set_level("INFO", program_cache.__name__)
    for _ in range(2):
        assert jax.jit(program_cache.kept(shows), static_argnums=0)(1, np.float32(2.0)) == 3.0
    assert caplog.text.count("is traced by each process") == 1  # the second does not try


def test_an_error_of_the_function_is_its_own(folder):
    with pytest.raises(ValueError, match="factor must not be negative"):
        run(Factor(-1.0))


_WITH_OTHERS = """
import sys
from pathlib import Path
import jax
from dg2_jax import program_cache
program_cache.enable(Path(sys.argv[1]))

def add(static, x):
    return x + static

print(jax.jit(program_cache.kept(add), static_argnums=0)(2, 1), jax.device_count())
"""


def test_nothing_is_kept_where_programs_may_run_on_another_device(tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", _WITH_OTHERS, tmp_path / "traced"],
        env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "3 2\n", done.stderr
    assert not (tmp_path / "traced").exists()


def test_a_folder_that_cannot_be_made_means_no_cache(tmp_path, folder):
    (tmp_path / "file").write_text("not a folder")
    program_cache.enable(tmp_path / "file" / "traced")
    for _ in range(2):
        result, times = run()
        assert times == 1
    same(result, expected())


def test_the_oldest_files_make_room(folder, monkeypatch):
    run(Factor(1.0))
    (first,) = folder.iterdir()
    run(Factor(2.0))
    (second,) = set(folder.iterdir()) - {first}
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    assert run(Factor(1.0))[1] == 0  # which makes it the newest
    monkeypatch.setattr(program_cache, "_MOST_BYTES", 2 * first.stat().st_size + 100)
    run(Factor(3.0))
    assert first in folder.iterdir()
    assert second not in folder.iterdir()
    assert len(list(folder.iterdir())) == 2


made = []


def factors(static):
    made.append(static)
    return [static.factor, ["x", 1]]


def test_a_value_is_remembered(folder):
    made.clear()
    for _ in range(2):
        assert program_cache.remembered(factors, Factor(4.0)) == [4.0, ["x", 1]]
    assert len(made) == 1
    (file,) = folder.iterdir()
    file.write_bytes(b"")
    assert program_cache.remembered(factors, Factor(4.0)) == [4.0, ["x", 1]]
    assert len(made) == 2
