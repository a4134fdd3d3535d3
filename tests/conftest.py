"""Shared test set-up: shapes checked at run time, no silent broadcasting, no network."""

import gc
import importlib.metadata
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
# Hundreds of small programs are compiled here and run a few times each: optimising them, or going
# through MLIR for them, costs more than it saves. XLA_FLAGS="" make test runs them as users do.
_FLAGS = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # later versions do not know it
os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))

from pathlib import Path  # noqa: E402

from jaxtyping import install_import_hook  # noqa: E402

# Of the library; its links to the user's folders lead to code without arrays.
_MODULES = [
    path for path in (Path(__file__).parents[1] / "dg2_jax").iterdir() if not path.is_symlink()
]
install_import_hook([f"dg2_jax.{path.stem}" for path in _MODULES], "beartype.beartype")

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

import psutil  # noqa: E402
import pytest  # noqa: E402

_MOST_MEMORY = 3 << 30  # bytes, of one process of the tests


def pytest_ignore_collect(collection_path):
    """Keeps --doctest-modules from importing helpers of the tests, which define flags."""
    is_helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if is_helper else None


def pytest_configure(config):
    """Shares compiled programs between the processes of the tests."""
    options = {
        "jax_compilation_cache_dir": str(config.cache.mkdir("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    for name, value in options.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Compiled programs are forgotten when they take too much; the cache on disk has them."""
    yield
    if psutil.Process().memory_info().rss > _MOST_MEMORY:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A small untrained model's folder."""
    from tests import tiny_model

    path = tmp_path_factory.mktemp("model")
    tiny_model.save(path)
    return path


@pytest.fixture(scope="session")
def pipe(folder):
    """The pipeline of a small untrained model."""
    from dg2_jax.pipeline import Pipeline

    return Pipeline.load(folder)
