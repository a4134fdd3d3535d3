"""What a picture loads: a second one nothing that only tracing needs."""

import os
import subprocess
import sys

import pytest

UNUSED = {
    "fastapi", "optax", "orbax", "pandas", "sklearn", "tensorflow", "tensorflow_datasets", "torch",
    "transformers", "wandb",
}  # fmt: skip
OF_TRACING = {"flax", "optax", "orbax", "treescope", "IPython", "rich"}

_SAMPLE = """
import atexit, sys
from dg2_jax.scripts import dg2
atexit.register(lambda: print("modules", *{name.partition(".")[0] for name in sys.modules}))
sys.argv = ["dg2", "sample", "a lake", *sys.argv[1:]]
dg2.main()
"""


def sample(folder, tmp_path, *flags) -> tuple[set[str], bytes]:
    """The modules that a process has at its end, and the picture that it made."""
    picture = tmp_path / "picture.png"
    picture.unlink(missing_ok=True)
    given = [f"--model={folder}", f"--out={picture}", "--num_inference_steps=2", "--seed=3", *flags]
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", _SAMPLE, *given]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (modules,) = (line for line in done.stdout.splitlines() if line.startswith("modules "))
    return set(modules.split()[1:]), picture.read_bytes()


@pytest.mark.parametrize("flags", [(), ("--weights=raw",)])
def test_a_second_picture_needs_nothing_that_traces(folder, tmp_path, flags):
    first, picture = sample(folder, tmp_path, *flags)
    assert not (UNUSED - OF_TRACING) & first
    second, again = sample(folder, tmp_path, *flags)
    assert not (UNUSED | OF_TRACING) & second
    assert again == picture


@pytest.mark.parametrize("module", ["dg2_jax.pipeline", "dg2_jax.serve.app"])
def test_an_import_brings_nothing_that_traces_or_trains(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    unused = (UNUSED | OF_TRACING | {"faiss", "psycopg"}) - {"fastapi", "rich"}  # of the server
    assert not unused & set(modules)
