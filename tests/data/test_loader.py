"""The loader's order, shares, buckets and position."""

import json
import time

import numpy as np
import pytest

from dg2_jax.data.loader import Buckets, Loader


class Numbers:
    def __init__(self, start=0, stop=10):
        self.numbers = range(start, stop)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return {"x": np.int64(self.numbers[index])}


def draw(example, rng):
    return {"x": np.float64(example["x"] + rng.random())}


def take(loader, count):
    return np.stack([next(loader)["x"] for _ in range(count)])


def test_each_epoch_shows_everything_once_in_its_own_order():
    epochs = take(Loader(Numbers(), 5, seed=1), 8).reshape(4, 10)
    assert all(sorted(e) == list(range(10)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 4


def test_order_depends_on_the_seed_and_not_on_the_threads():
    one = take(Loader(Numbers(), 4, seed=1, read_threads=1, prefetch=1), 10)
    many = take(Loader(Numbers(), 4, seed=1, read_threads=4, prefetch=8), 10)
    other = take(Loader(Numbers(), 4, seed=2), 10)
    np.testing.assert_array_equal(one, many)
    assert (one != other).any()


def test_position_is_exact_and_json():
    loader = Loader(Numbers(), 4, seed=1, transform=draw)
    take(loader, 7)
    position = json.loads(json.dumps(loader.position()))
    expected = take(loader, 6)
    again = Loader(Numbers(), 4, seed=1, transform=draw)
    again.seek(position)
    np.testing.assert_array_equal(take(again, 6), expected)


@pytest.mark.parametrize("source", [Numbers(), Buckets([Numbers(0, 10), Numbers(10, 16)])])
def test_the_rows_of_all_processes_are_the_batch_of_one(source):
    whole = take(Loader(source, 4, seed=1, transform=draw), 12)
    shares = [
        Loader(source, 4, seed=1, transform=draw, process_index=i, process_count=2) for i in (0, 1)
    ]
    rows = [take(share, 5) for share in shares]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), whole[:5])
    # They may continue with another number of processes, from the position they share.
    assert shares[0].position() == shares[1].position()
    again = Loader(source, 4, seed=1, transform=draw)
    again.seek(shares[0].position())
    np.testing.assert_array_equal(take(again, 7), whole[5:])


def test_a_batch_is_of_one_bucket_and_buckets_come_in_proportion():
    source = Buckets([Numbers(0, 30), Numbers(100, 110)])
    assert len(source) == 40
    batches = take(Loader(source, 5, seed=1), 16)
    small = (batches < 100).all(axis=1)
    assert (small | (batches >= 100).all(axis=1)).all()
    assert small.sum() == 12
    assert sorted(batches[small][:6].ravel()) == list(range(30))


def test_what_the_caller_waited_for_is_measured():
    def slow(example, rng):
        time.sleep(0.02)
        return example

    loader = Loader(Numbers(), 5, seed=1, transform=slow, read_threads=1, prefetch=1)
    start = time.perf_counter()
    take(loader, 3)
    assert 0.1 < loader.waited <= time.perf_counter() - start


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="source must hold at least one example"):
        Loader([], 4, seed=0)
    with pytest.raises(ValueError, match="source must hold at least one example"):
        Loader(Buckets([Numbers(), []]), 4, seed=0)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 processes, got 4"):
        Loader(Numbers(), 4, seed=0, process_count=3)
    with pytest.raises(ValueError, match=r"process_index must be in \[0, 2\), got 2"):
        Loader(Numbers(), 4, seed=0, process_index=2, process_count=2)
