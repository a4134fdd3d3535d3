"""A picture and a mask for the tests of editing."""

import numpy as np
import pytest

SIZE = 32  # of the small model's pictures


@pytest.fixture(scope="session")
def picture():
    """A smooth picture with a little texture."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    rng = np.random.default_rng(0)
    pixels = np.stack([x, y, 1 - x], -1) * 200 + rng.uniform(0, 40, (SIZE, SIZE, 3))
    return pixels.astype(np.uint8)


@pytest.fixture(scope="session")
def mask():
    """White in the lower right quarter."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[SIZE // 2 :, SIZE // 2 :] = 1.0
    return mask
