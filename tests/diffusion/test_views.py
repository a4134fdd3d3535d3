"""Anagram views: orthogonal, exactly invertible, and the same map at every resolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dg2_jax.diffusion import views

SIDES = (8, 16, 32)
names = pytest.mark.parametrize("name", views.VIEWS)


def picture(side, seed=0, batch=2):
    return np.random.default_rng(seed).normal(size=(batch, side, side, 3)).astype(np.float32)


def seen(x, name, **board):
    return np.asarray(views.apply(jnp.asarray(x), views.make(name, x.shape[1], **board)))


@names
@pytest.mark.parametrize("side", SIDES)
def test_is_an_exact_permutation_with_its_inverse(name, side):
    view = views.make(name, side)
    assert view.index.dtype == view.inverse.dtype == np.int32
    np.testing.assert_array_equal(np.sort(view.index), np.arange(side * side))
    x = jnp.asarray(picture(side))
    np.testing.assert_array_equal(views.invert(views.apply(x, view), view), x)
    np.testing.assert_array_equal(views.apply(views.invert(x, view), view), x)


@names
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_preserves_dot_products(name, seed):
    x, y = picture(16, seed).astype(np.float64), picture(16, seed + 1).astype(np.float64)
    view = views.make(name, 16)
    before = (x * y).sum()
    after = (views._permute(x, view.index) * views._permute(y, view.index)).sum()
    np.testing.assert_allclose(after * float(view.sign) ** 2, before, rtol=1e-12)


@names
def test_the_inverse_is_the_adjoint(name):
    view = views.make(name, 16)
    x, y = jnp.asarray(picture(16)), jnp.asarray(picture(16, 1))
    _, transpose = jax.vjp(lambda a: views.apply(a, view), x)
    np.testing.assert_array_equal(transpose(y)[0], views.invert(y, view))


@names
@pytest.mark.parametrize("factor", [2, 8])
def test_means_the_same_at_every_resolution(name, factor):
    x = picture(16)
    large = x.repeat(factor, 1).repeat(factor, 2)
    turned = seen(x, name).repeat(factor, 1).repeat(factor, 2)
    np.testing.assert_array_equal(seen(large, name), turned)


@names
def test_a_smaller_board_means_the_same_when_both_name_it(name):
    x = picture(8)
    large = x.repeat(4, 1).repeat(4, 2)
    turned = seen(x, name, cells=8).repeat(4, 1).repeat(4, 2)
    np.testing.assert_array_equal(seen(large, name, cells=8), turned)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("identity", lambda x: x),
        ("rot90", lambda x: np.rot90(x, 1, (1, 2))),
        ("rot180", lambda x: x[:, ::-1, ::-1]),
        ("rot270", lambda x: np.rot90(x, 3, (1, 2))),
        ("flip_horizontal", lambda x: x[:, :, ::-1]),
        ("flip_vertical", lambda x: x[:, ::-1]),
        ("negate", lambda x: -x),
    ],
)
def test_rotations_and_flips_against_numpy(name, reference):
    x = picture(16)
    np.testing.assert_array_equal(seen(x, name), reference(x))


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("rot90", 4),
        ("rot270", 4),
        ("rot180", 2),
        ("flip_horizontal", 2),
        ("flip_vertical", 2),
        ("negate", 2),
        ("inner_circle", 2),
        ("skew", 16),
    ],
)
def test_orders_of_the_group(name, order):
    x = picture(16)
    turned = x
    for i in range(order):
        assert i == 0 or not np.array_equal(turned, x)
        turned = seen(turned, name)
    np.testing.assert_array_equal(turned, x)


def test_relations_between_rotations_and_flips():
    x = picture(16)
    np.testing.assert_array_equal(seen(seen(x, "rot90"), "rot90"), seen(x, "rot180"))
    np.testing.assert_array_equal(seen(seen(x, "rot90"), "rot270"), x)
    both = seen(seen(x, "flip_horizontal"), "flip_vertical")
    np.testing.assert_array_equal(both, seen(x, "rot180"))
    turned = seen(seen(seen(x, "flip_horizontal"), "rot90"), "flip_horizontal")
    np.testing.assert_array_equal(turned, seen(x, "rot270"))


def pieces_of(x, patches=4):
    size = x.shape[1] // patches
    cut = x[0].reshape(patches, size, patches, size, 3).swapaxes(1, 2)
    return {(i, j): cut[i, j] for i in range(patches) for j in range(patches)}


def kind(place):
    return sum(i in (0, 3) for i in place)  # 2 for a corner, 1 for an edge, 0 inside


def test_patch_permutation_moves_every_piece_unturned():
    x = picture(16)
    before, after = pieces_of(x), pieces_of(seen(x, "patch_permutation"))
    for place, piece in after.items():
        (source,) = [p for p, other in before.items() if np.array_equal(piece, other)]
        assert source != place


def test_jigsaw_moves_turned_pieces_and_keeps_the_border():
    x = picture(16)
    before, after = pieces_of(x), pieces_of(seen(x, "jigsaw"))
    turned = 0
    for place, piece in after.items():
        actual = [
            (p, k)
            for p, other in before.items()
            for k in range(4)
            if np.array_equal(piece, np.rot90(other, k))
        ]
        ((source, turns),) = actual
        turned += turns > 0
        assert kind(source) == kind(place)
    assert turned >= 8
    border = np.ones((1, 16, 16, 3), np.float32)
    border[:, 1:-1, 1:-1] = 0
    np.testing.assert_array_equal(seen(border, "jigsaw"), border)


def test_inner_circle_turns_a_disc_and_leaves_the_corners():
    x = picture(16)
    turned = seen(x, "inner_circle")
    changed = (turned != x).any((0, 3))
    radius = np.hypot(*np.meshgrid(*[np.arange(16) - 7.5] * 2))
    np.testing.assert_array_equal(changed, radius <= 6)
    np.testing.assert_array_equal(turned[:, changed], x[:, ::-1, ::-1][:, changed])


def test_skew_of_an_odd_board_leaves_the_middle_column():
    x = picture(15)
    moved = (seen(x, "skew", cells=5) != x).any((0, 1, 3))
    np.testing.assert_array_equal(moved, [True] * 6 + [False] * 3 + [True] * 6)


def test_skew_rolls_columns_by_whole_cells():
    x = picture(16)
    turned = seen(x, "skew")
    for j in range(16):
        np.testing.assert_array_equal(turned[:, :, j], np.roll(x[:, :, j], j - 8, axis=1))


def test_every_view_but_identity_changes_a_picture():
    x = picture(16)
    results = {seen(x, name).tobytes() for name in views.VIEWS}
    assert len(results) == len(views.VIEWS)


@names
def test_finished_pictures_show_what_pixels_do(name):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pixels = jnp.asarray(images, jnp.float32) / 127.5 - 1.0
    expected = np.round((views.apply(pixels, views.make(name, 32)) + 1.0) * 127.5)
    np.testing.assert_array_equal(views.apply_to_images(images, name), expected)


def test_another_view_compiles_nothing():
    function = jax.jit(views.apply)
    x = jnp.asarray(picture(16))
    for name in views.VIEWS:
        view = views.make(name, 16)
        np.testing.assert_array_equal(function(x, view), seen(x, name))
    assert function._cache_size() == 1


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"view must be one of identity.*'sideways'"):
        views.make("sideways", 16)
    with pytest.raises(ValueError, match="patches must be at least 2 and divide the side"):
        views.make("jigsaw", 18)
    with pytest.raises(ValueError, match="cells must divide the side"):
        views.make("skew", 16, cells=3)
    with pytest.raises(ValueError, match="height and width must be at least 1"):
        views.make("rot90", 0)
