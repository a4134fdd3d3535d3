"""Attention by itself: which kernel computes it, and whether cuDNN's would be faster.

The library asks for JAX's attention and leaves the choice of kernel to it. Where that choice is
XLA's products and softmax, a second figure says what cuDNN's flash attention would take, or why it
refuses the shape.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax.nn.attention import dot_product_attention
from dg2_jax.scripts.accelerator import timing
from dg2_jax.scripts.accelerator.options import Options
from dg2_jax.scripts.accelerator.record import Record, message


class Shape(NamedTuple):
    """Of a product: the model it is of, queries, keys, heads, width of a head, whether masked."""

    model: str
    queries: int
    keys: int
    heads: int
    width: int
    masked: bool = False


# Of guided steps of one picture; self-attention of the largest levels, and attention to the text.
_SHAPES = (
    Shape("demo", 64, 64, 4, 32),
    Shape("demo", 64, 64, 4, 32, masked=True),
    Shape("base", 1024, 1024, 16, 8),
    Shape("base", 256, 256, 16, 16),
    Shape("sd15", 4096, 4096, 8, 40),
    Shape("sd15", 1024, 1024, 8, 80),
    Shape("sd15", 4096, 77, 8, 40),
    Shape("sdxl", 4096, 4096, 10, 64),
    Shape("sdxl", 1024, 1024, 20, 64),
)
_BATCH = 8
_QUICK = (Shape("demo", 64, 64, 4, 32), Shape("demo", 64, 64, 4, 32, masked=True))


def run(record: Record, options: Options) -> None:
    """A case for each shape and dtype."""
    for shape in _QUICK if options.quick else _SHAPES:
        for dtype in ("bfloat16", "float32"):
            record.case({**shape._asdict(), "dtype": dtype}, measure, shape, dtype, options.quick)


def measure(shape: Shape, dtype: str, quick: bool) -> dict[str, Any]:
    """Kernel and time of the library's attention; likewise of cuDNN's; the error of both."""
    q, k, v = arrays(shape, 2 if quick else _BATCH, dtype)
    mask = (jnp.arange(shape.keys) < shape.keys // 2)[None].repeat(len(q), 0)
    args = (q, k, v, mask) if shape.masked else (q, k, v)
    expected = exact(*args)
    ours, facts = timing.compiled(dot_product_attention, *args)
    values = {
        "attention": facts["attention"],
        "seconds": timing.seconds(lambda: ours(*args), quick),
        "error": error_of(ours, args, expected),
        "memory_mib": facts.get("memory_mib"),
    }
    try:
        other, _ = timing.compiled(cudnn, *args)
        values["cudnn_seconds"] = timing.seconds(lambda: other(*args), quick)
        values["cudnn_error"] = error_of(other, args, expected)
    except Exception as error:  # of many kinds: no GPU, no cuDNN, a shape or dtype it lacks
        values["cudnn_refuses"] = message(error)
    return values


def arrays(shape: Shape, batch: int, dtype: str) -> list[jax.Array]:
    """Queries, keys and values."""
    rng = np.random.default_rng(0)
    lengths = shape.queries, shape.keys, shape.keys
    sizes = [(batch, length, shape.heads, shape.width) for length in lengths]
    return [jnp.asarray(rng.normal(size=size), dtype) for size in sizes]


def cudnn(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    """JAX's attention by cuDNN, or an error."""
    if mask is not None:
        mask = mask[:, None, None, :]
    return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn")


@jax.jit
def exact(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    """The first picture's attention as the textbook has it, in exact float32."""
    q, k, v = (a[:1].astype(jnp.float32) for a in (q, k, v))
    with jax.default_matmul_precision("highest"):
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
        if mask is not None:
            logits = jnp.where(mask[:1, None, None], logits, -jnp.inf)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), v)


def error_of(program: Callable[..., Any], args: Any, expected: Any) -> float:
    """The root mean square of the error of the first picture, relative to that of the result."""
    found = np.asarray(program(*args)[:1], np.float32)
    return relative_error(found, np.asarray(expected))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The root mean square of the difference, of that of what is expected."""
    difference = np.asarray(found, np.float64) - expected
    return float(np.sqrt(np.mean(difference**2) / np.mean(np.asarray(expected, np.float64) ** 2)))
