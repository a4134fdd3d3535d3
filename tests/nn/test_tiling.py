import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.nn.tiling import tiled


def enlarge(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def reduce(x):
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


@pytest.mark.parametrize(
    ("fn", "tile", "overlap"),
    [(enlarge, 8, 2), (enlarge, 8, 0), (reduce, 12, 6), (jnp.sin, 64, 8)],
)
def test_tiles_of_a_local_function_make_up_the_whole(fn, tile, overlap):
    x = jax.random.normal(jax.random.key(0), (2, 20, 26, 3))
    np.testing.assert_allclose(tiled(fn, x, tile, overlap), fn(x), atol=1e-5)


def test_all_tiles_have_one_shape_and_stay_in_the_image():
    seen = []
    tiled(lambda x: seen.append(x.shape) or x, jnp.zeros((1, 30, 10, 1)), 16, 4)
    assert seen == [(1, 16, 10, 1)] * 3


def test_tiles_blend_linearly():
    # Each tile answers with its own number: 0, then 1; cells 4 to 7 belong to both.
    answers = iter([0.0, 1.0])
    blended = tiled(lambda x: jnp.full_like(x, next(answers)), jnp.zeros((1, 1, 12, 1)), 8, 4)
    expected = [0.0] * 4 + [0.125, 0.375, 0.625, 0.875] + [1.0] * 4
    np.testing.assert_allclose(blended[0, 0, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (0, 0, "tile must be"),
        (8, 8, "overlap must be"),
        (8, -1, "overlap must be"),
        (8, 3, "whole cells"),
    ],
)
def test_bad_tiles_are_refused(tile, overlap, message):
    with pytest.raises(ValueError, match=message):
        tiled(reduce, jnp.zeros((1, 20, 20, 1)), tile, overlap)
