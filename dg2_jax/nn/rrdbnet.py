"""The two super-resolution networks of Real-ESRGAN: RRDBNet and the small SRVGGNetCompact.

Both map RGB in [0, 1] to RGB (the output is not clipped) and pad every convolution with zeros.
Wang et al., "ESRGAN" (arXiv:1809.00219, section 3.1) and "Real-ESRGAN" (arXiv:2107.10833).
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

_LEAK = 0.2  # slope of every leaky ReLU of RRDBNet
_RESIDUAL = 0.2  # scale of a dense block's output, and of a residual-in-residual block's


def nearest_upsample(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b H W c"]:
    """Repeats every pixel `factor` times in both directions."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, c))
    return x.reshape(b, h * factor, w * factor, c)


def pixel_unshuffle(x: Float[Array, "b H W c"], factor: int) -> Float[Array, "b h w C"]:
    """Moves space into channels: pixel (dy, dx) of an r×r cell to channel c·r² + dy·r + dx.

    Height and width must be multiples of `factor`.
    """
    b, h, w, c = x.shape
    if h % factor or w % factor:
        raise ValueError(f"height and width must be multiples of {factor}, got {h} and {w}")
    x = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // factor, w // factor, -1)


def _conv3x3(c_in: int, c_out: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(c_in, c_out, (3, 3), padding="SAME", rngs=rngs)


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, _LEAK)


class DenseTrunk(nnx.Module):
    """RRDBNet's residual-in-residual dense blocks, run as one scan over stacked parameters.

    A block is three dense blocks of five convolutions, each of which sees the block's input and all
    outputs before it. `kernels[j]` has shape (blocks, 3, 3, 3, in_j, out_j) and `biases[j]`
    (blocks, 3, out_j): blocks, dense blocks, and then the convolution. Stacking keeps compilation
    short, since one block is compiled instead of 23.
    """

    def __init__(self, num_block: int, features: int, growth: int, *, rngs: nnx.Rngs):
        # A tenth of He's standard deviation, as in ESRGAN: a deep stack starts near the identity.
        init = nnx.initializers.variance_scaling(0.02, "fan_in", "normal", batch_axis=(0, 1))
        outs = [growth] * 4 + [features]
        self.kernels = nnx.List(
            nnx.Param(
                init(rngs.params(), (num_block, 3, 3, 3, features + j * growth, out), jnp.float32)
            )
            for j, out in enumerate(outs)
        )
        self.biases = nnx.List(
            nnx.Param(jnp.zeros((num_block, 3, out), jnp.float32)) for out in outs
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """All blocks, one after another."""

        def block(x, params):
            y = x
            for i in range(3):
                y = _dense_block(y, *jax.tree.map(lambda p, i=i: p[i], params))
            return x + _RESIDUAL * y, None

        stacked = [p[...] for p in self.kernels], [p[...] for p in self.biases]
        return jax.lax.scan(block, x, stacked)[0]


def _dense_block(x: Array, kernels: list[Array], biases: list[Array]) -> Array:
    """Five convolutions over a growing concatenation; faster on CPU than sums of convolutions."""
    seen = x
    for j, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        y = jax.lax.conv_general_dilated(
            seen, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = y + bias.reshape(1, 1, 1, -1)
        if j < 4:
            seen = jnp.concatenate([seen, _leaky(y)], axis=-1)
    return x + _RESIDUAL * y


class RRDBNet(nnx.Module):
    """Residual-in-residual dense network (ESRGAN's generator, Real-ESRGAN's x4plus and x2plus).

    The trunk is followed by two nearest-neighbour doublings, so the native factor is 4; for `scale`
    2 and 1 the input is first pixel-unshuffled by 2 and 4 (Real-ESRGAN, section 3.3).

    Args:
        num_block: residual-in-residual blocks (23: x4plus, x2plus; 6: x4plus-anime).
        scale: output size over input size; 1, 2 or 4.
        features: channels of the trunk.
        growth: channels that each dense convolution adds.
        rngs: source of the initial parameters.

    Raises:
        ValueError: `scale` is not 1, 2 or 4; on a call, if height or width is not a multiple of
            `unshuffle` = 4 // scale.
    """

    def __init__(
        self,
        num_block: int = 23,
        scale: int = 4,
        features: int = 64,
        growth: int = 32,
        *,
        rngs: nnx.Rngs,
    ):
        if scale not in (1, 2, 4):
            raise ValueError(f"scale must be 1, 2 or 4, got {scale!r}")
        self.scale, self.unshuffle = scale, 4 // scale
        self.conv_first = _conv3x3(3 * self.unshuffle**2, features, rngs)
        self.trunk = DenseTrunk(num_block, features, growth, rngs=rngs)
        self.conv_body = _conv3x3(features, features, rngs)
        self.conv_up1 = _conv3x3(features, features, rngs)
        self.conv_up2 = _conv3x3(features, features, rngs)
        self.conv_hr = _conv3x3(features, features, rngs)
        self.conv_last = _conv3x3(features, 3, rngs)

    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b H W 3"]:
        """RGB in [0, 1] -> RGB of `scale` times the height and width, about [0, 1]."""
        first = self.conv_first(pixel_unshuffle(x, self.unshuffle))
        y = first + self.conv_body(self.trunk(first))
        y = _leaky(self.conv_up1(nearest_upsample(y, 2)))
        y = _leaky(self.conv_up2(nearest_upsample(y, 2)))
        return self.conv_last(_leaky(self.conv_hr(y)))


class SRVGGNetCompact(nnx.Module):
    """A plain stack of convolutions with PReLU at the input's resolution (animevideov3).

    The last convolution gives 3·scale² channels, which are pixel-shuffled and added to the
    nearest-neighbour enlargement of the input.

    Args:
        num_conv: convolutions between the first and the last one (16: animevideov3).
        scale: output size over input size.
        features: channels of the stack.
        rngs: source of the initial parameters.
    """

    unshuffle = 1

    def __init__(self, num_conv: int = 16, scale: int = 4, features: int = 64, *, rngs: nnx.Rngs):
        self.scale = scale
        widths = [3, *[features] * (num_conv + 1), 3 * scale**2]
        self.convs = nnx.List(_conv3x3(a, b, rngs) for a, b in itertools.pairwise(widths))
        self.slopes = nnx.List(
            nnx.Param(jnp.full((features,), 0.25, jnp.float32)) for _ in range(num_conv + 1)
        )

    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b H W 3"]:
        """RGB in [0, 1] -> RGB of `scale` times the height and width, about [0, 1]."""
        *hidden, last = self.convs
        y = x
        for conv, slope in zip(hidden, self.slopes, strict=True):
            y = conv(y)
            y = jnp.where(y >= 0, y, slope[...].reshape(1, 1, 1, -1) * y)
        # Channel c·r² + dy·r + dx is pixel (dy, dx) of a cell. The last convolution is run with its
        # channels in the order (dy, dx, c), so that whole rows of pixels move, not single numbers.
        b, h, w, _ = x.shape
        r = self.scale
        order = jnp.arange(3 * r * r).reshape(3, r * r).T.ravel()
        y = jax.lax.conv_general_dilated(
            y, last.kernel[..., order], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        assert last.bias is not None
        y = y + last.bias[order].reshape(1, 1, 1, -1) + jnp.tile(x, r * r)
        return y.reshape(b, h, w, r, 3 * r).swapaxes(2, 3).reshape(b, h * r, w * r, 3)
