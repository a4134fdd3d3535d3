"""Convolutions that XLA's CPU back end runs slowly: 3x3, and 2x2 transposed.

3x3 takes the best path of each platform, behind one function. XLA's CPU back end convolves well
with many pixels and few channels. In the deep levels of a UNet (few pixels, wide kernels) it takes
up to four times as long as a matrix product with the same arithmetic. There the shifted inputs of
every pixel are laid side by side ("columns") and one product does the rest (Chellapilla et al.,
High performance convolutional neural networks for document processing, 2006). Other platforms have
fast kernels of their own.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.nn.product import dot_general

# Measured, see docs/performance.md: in the forward pass, columns win up to this many pixels and
# from this kernel size on; in the gradients, up to this many entries.
_FEW_PIXELS = 512
_WIDE_KERNEL = 512 * 512
_MOST_COLUMNS = 6_000_000

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_AROUND = ((1, 1), (1, 1))


def conv3x3(in_channels: int, out_channels: int, rngs: nnx.Rngs, **options: Any) -> nnx.Conv:
    """A layer with one pixel of padding all around; `options` as of `nnx.Conv`."""
    # Padding spelt out: "SAME" pads a stride-2 convolution on the far side only.
    return nnx.Conv(
        in_channels, out_channels, (3, 3), padding=_AROUND, conv_general_dilated=convolve,
        rngs=rngs, **options,
    )  # fmt: skip


def convolve(x: Array, kernel: Array, strides: Any, padding: Any, **settings: Any) -> Array:
    """`jax.lax.conv_general_dilated` for `nnx.Conv(conv_general_dilated=convolve)`.

    A 3x3 convolution with one pixel of padding, of stride 1 or 2, has its own path on CPU;
    everything else is passed on unchanged.

    Args:
        x: (b, h, w, i).
        kernel: (kh, kw, i, o).
        strides: of both axes.
        padding: "SAME", or (before, after) of both axes.
        settings: as of `jax.lax.conv_general_dilated`.
    """

    def plain(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)

    dilations = (*settings.get("lhs_dilation", (1,)), *settings.get("rhs_dilation", (1,)))
    keeps_size = padding == "SAME" or tuple(map(tuple, padding)) == _AROUND
    whole = settings.get("feature_group_count", 1) == 1
    usual = kernel.shape[:2] == (3, 3) and {*dilations} == {1} and keeps_size and whole
    if usual and {*strides} == {1}:
        return jax.lax.platform_dependent(x, kernel, cpu=convolve_on_cpu, default=plain)
    if usual and {*strides} == {2} and padding != "SAME":
        return jax.lax.platform_dependent(x, kernel, cpu=halve_on_cpu, default=plain)
    return plain(x, kernel)


class Doubling(nnx.ConvTranspose):
    """A 2x2 transposed convolution of stride 2: each pixel becomes a square of four.

    The four are computed as a batch of products; as a convolution, XLA's CPU back end would
    multiply zeros, and take even longer for the gradient of the kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, rngs: nnx.Rngs):
        super().__init__(in_channels, out_channels, (2, 2), (2, 2), padding="VALID", rngs=rngs)

    def __call__(self, inputs: Float[Array, "b h w i"]) -> Float[Array, "b 2*h 2*w o"]:
        """Doubles height and width."""
        b, h, w, i = inputs.shape
        kernels = self.kernel[...].reshape(4, i, -1)
        copies = jnp.broadcast_to(inputs.reshape(1, -1, i), (4, b * h * w, i))
        # Flax's kernel belongs to the convolution of the dilated input, so it is flipped.
        pixels = jnp.swapaxes((copies @ kernels)[::-1], 0, 1)
        squares = pixels.reshape(b, h, w, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
        assert self.bias is not None  # use_bias is never False here
        return squares.reshape(b, 2 * h, 2 * w, -1) + self.bias[...].reshape(1, 1, 1, -1)


@jax.custom_vjp
def convolve_on_cpu(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h w o"]:
    """A 3x3 convolution of stride 1, the edges padded with zeros."""
    return _by_product_or_xla(x, kernel, 1)


def halve_on_cpu(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b (h+1)//2 (w+1)//2 o"]:
    """A 3x3 convolution of stride 2 with one pixel of padding; odd sizes are rounded up."""
    return _by_product_or_xla(x, kernel, 2)


def _by_product_or_xla(x: Array, kernel: Array, stride: int) -> Array:
    (b, h, w, i), o = x.shape, kernel.shape[3]
    pixels = b, -(-h // stride), -(-w // stride)
    if math.prod(pixels) > _FEW_PIXELS or i * o < _WIDE_KERNEL:
        return _by_xla(x, kernel, stride)
    return dot_general(_columns(x, stride), kernel.reshape(9 * i, o)).reshape(*pixels, o)


def _by_xla(x: Array, kernel: Array, stride: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), _AROUND, dimension_numbers=_DIMENSIONS
    )


def _columns(x: Float[Array, "b h w c"], stride: int = 1) -> Float[Array, "_ 9*c"]:
    """The 3x3 neighbours of each pixel, or of each `stride`-th one, row by row."""
    _, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), *_AROUND, (0, 0)))
    shifts = itertools.product(range(3), repeat=2)
    shifted = [padded[:, i : i + h : stride, j : j + w : stride] for i, j in shifts]
    return jnp.concatenate(shifted, axis=-1).reshape(-1, 9 * c)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve_on_cpu(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _input_gradient(x, kernel, gradient), _kernel_gradient(x, kernel, gradient)


def _input_gradient(x: Array, kernel: Array, gradient: Array) -> Array:
    """The gradient of each pixel's columns, added up where they came from."""
    if 9 * x.size > _MOST_COLUMNS:
        return jax.vjp(lambda x: _by_xla(x, kernel), x)[1](gradient)[0]
    i, o = kernel.shape[2:]
    columns = gradient.reshape(-1, o) @ kernel.reshape(9 * i, o).T
    return jax.vjp(_columns, x)[1](columns)[0]


def _kernel_gradient(x: Array, kernel: Array, gradient: Array) -> Array:
    """Columns of the narrower of input and gradient, times the other."""
    i, o = kernel.shape[2:]
    if 9 * min(x.size, gradient.size) > _MOST_COLUMNS:
        return jax.vjp(lambda kernel: _by_xla(x, kernel), kernel)[1](gradient)[0]
    if i <= o:
        return (_columns(x).T @ gradient.reshape(-1, o)).reshape(kernel.shape)
    mirrored = (x.reshape(-1, i).T @ _columns(gradient)).reshape(i, 3, 3, o)
    return jnp.flip(mirrored, (1, 2)).transpose(1, 2, 0, 3)


convolve_on_cpu.defvjp(_forward, _backward)
