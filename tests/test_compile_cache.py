"""The compile cache helps, and a bad one does no harm."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import jax, jax.numpy as jnp
from dg2_jax import compile_cache
folder = compile_cache.enable()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
print(folder, float(jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(jnp.arange(3.0))))
print("hits", sum(name.endswith("/cache_hits") for name in events))
"""


def run(cache) -> tuple[str, str, int]:
    """The folder that was used, the program's result, and how often the cache had it."""
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    folder, result = first.split(" ")
    return folder, result, int(second.removeprefix("hits "))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    folder, result, hits = run(cache)
    assert folder == str(cache)
    assert hits == 0
    return cache, result


def entries(cache):
    return [p for p in cache.iterdir() if p.is_file() and not p.name.endswith("-atime")]


def test_a_second_process_finds_what_the_first_compiled(filled):
    cache, result = filled
    assert entries(cache)
    assert run(cache)[1:] == (result, len(entries(cache)))


@pytest.mark.parametrize("damage", ["emptied", "halved", "noise"])
def test_damaged_entries_are_recompiled(filled, tmp_path, damage):
    cache, result = filled
    for entry in entries(cache):
        data = entry.read_bytes()
        bad = {"emptied": b"", "halved": data[: len(data) // 2], "noise": os.urandom(len(data))}
        (tmp_path / entry.name).write_bytes(bad[damage])
    assert run(tmp_path)[1:] == (result, 0)


def test_a_folder_that_cannot_be_made_means_no_cache(filled, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert run(tmp_path / "file" / "cache") == ("None", filled[1], 0)


_LIBRARY = """
import shutil, sys, warnings
import jax
from dg2_jax import Pipeline

if sys.argv[3] == "configured":
    jax.config.update("jax_compilation_cache_dir", sys.argv[1] + "/theirs")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
pipe = Pipeline.load(sys.argv[2], compile_cache=sys.argv[3] != "off")
folder = jax.config.jax_compilation_cache_dir
print(folder, jax.config.jax_persistent_cache_min_compile_time_secs)
if sys.argv[3] == "deleted":
    shutil.rmtree(folder)
    with open(folder, "w") as file:
        file.write("no folder any more")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
if sys.argv[3] in ("deleted", "unwritable"):
    warnings.simplefilter("ignore" if sys.argv[3] == "deleted" else "error", UserWarning)
    print(pipe("a lake", num_inference_steps=1))
"""


@pytest.mark.parametrize(
    ("case", "home", "variable", "expected"),
    [
        ("usual", "", None, "{tmp}/.cache/dg2_jax/xla 0.1"),
        ("off", "", None, "None 1.0"),
        ("usual", "", "", "{empty} 1.0"),
        ("usual", "", "{tmp}/chosen", "{tmp}/chosen 0.1"),
        ("configured", "", None, "{tmp}/theirs 0.3"),
        ("unwritable", "/file", None, "None 1.0"),
        ("deleted", "", None, "{tmp}/.cache/dg2_jax/xla 0.1"),
    ],
)
def test_the_library_keeps_what_it_compiles_and_a_bad_folder_fails_no_run(
    folder, tmp_path, case, home, variable, expected
):
    (tmp_path / "file").write_text("no folder")
    env = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    env["HOME"] = f"{tmp_path}{home}"
    if variable is not None:
        env["JAX_COMPILATION_CACHE_DIR"] = variable.format(tmp=tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _LIBRARY, tmp_path, folder, case],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *pictures = done.stdout.splitlines()
    assert first == expected.format(tmp=tmp_path, empty="")
    assert len(pictures) == (case in ("unwritable", "deleted"))


_FREED = """
import ctypes
import jax
from dg2_jax import compile_cache

libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_trim"):
    print(30_000, 0)
    raise SystemExit
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

jax.devices()
compile_cache.enable()
before = resident()
blocks = [libc.malloc(16_000) for _ in range(8_000)]
for block in blocks:
    ctypes.memset(block, 1, 16_000)
for block in blocks[:-1]:  # the last is on top of the heap and keeps it
    libc.free(block)
held = resident() - before
jax.jit(lambda x: x + 1)(1.0)
print(held, resident() - before)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="reads Linux's /proc")
def test_memory_that_was_freed_is_given_back_after_a_compilation(tmp_path):
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _FREED], env=env, capture_output=True, text=True, check=True
    )
    held, left = map(int, done.stdout.split())
    assert held > 25_000  # pages: of 31,250 that were written
    assert left < held / 2
