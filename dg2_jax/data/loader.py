"""Batches for training, by Grain: shuffled anew each epoch, read ahead, resumable to the batch.

The order is a function of (seed, position) alone, whatever the number of threads.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np

Example = dict[str, Any]
Batch = dict[str, np.ndarray]
Transform = Callable[[Any, np.random.Generator], Example]


@runtime_checkable
class Source(Protocol):
    """Anything with a length and random access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Loader:
    """An endless iterator over batches whose position can be saved and restored."""

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        seed: int,
        transform: Transform | None = None,
        collate: Callable[[Sequence[Example]], Batch] | None = None,
        read_threads: int = 2,
        prefetch: int = 4,
    ):
        """Makes a loader at the first batch.

        Args:
            source: the examples.
            batch_size: examples a batch; a batch may span two epochs, all are full.
            seed: of the order and of `transform`'s generator.
            transform: what is made of an example, with a generator of its own for each visit.
            collate: examples to a batch; stacks every key by default.
            read_threads: threads that read and transform.
            prefetch: batches that are read ahead.

        Raises:
            ValueError: the source is empty.
        """
        if len(source) == 0:
            raise ValueError("source must hold at least one example, got an empty one")
        data = grain.MapDataset.source(source).seed(seed).shuffle().repeat(None)
        if transform is not None:
            data = data.random_map(transform)
        data = data.batch(batch_size, batch_fn=collate or stack)
        # Grain reads ahead elements, which are batches here: each thread makes a whole batch.
        options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=prefetch)
        self._iterator = iter(data.to_iter_dataset(options))

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def position(self) -> dict[str, Any]:
        """JSON data that stands for the next batch."""
        return self._iterator.get_state()

    def seek(self, position: dict[str, Any]) -> None:
        """Goes to a position that `position` gave."""
        self._iterator.set_state(position)


def stack(examples: Sequence[Example]) -> Batch:
    """Stacks each key of examples of equal shapes."""
    return {key: np.stack([e[key] for e in examples]) for key in examples[0]}


def only(*keys: str) -> Transform:
    """A transform that keeps the named keys of an example."""
    return lambda example, rng: {key: example[key] for key in keys}
