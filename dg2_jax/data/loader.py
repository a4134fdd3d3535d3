"""Batches for training, by Grain: reshuffled each epoch, prefetched, resumable at any batch.

The order is a function of (seed, position) alone, for any number of threads and processes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np

Example = dict[str, Any]
Batch = Mapping[str, Any]  # arrays with the examples as first axis, on the host or the device
Transform = Callable[[Any, np.random.Generator], Example]


@runtime_checkable
class Source(Protocol):
    """Anything with a length and random access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class Buckets:
    """Sources whose examples differ in shape from source to source; a batch comes from one."""

    sources: Sequence[Source]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)


class Loader:
    """An endless iterator over batches whose position can be saved and restored.

    Attributes:
        waited: seconds that the caller has waited for batches so far, which prefetching did not
            hide. Divided by the time of the steps it is the input stall.
    """

    def __init__(
        self,
        source: Source | Buckets,
        batch_size: int,
        *,
        seed: int,
        transform: Transform | None = None,
        collate: Callable[[Sequence[Example]], Batch] | None = None,
        read_threads: int = 2,
        prefetch: int = 4,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Creates a loader at the first batch.

        Args:
            source: the examples. Of buckets, each batch is drawn from one, in proportion to their
                lengths.
            batch_size: examples per batch over all processes; every batch is full, so one may span
                two epochs.
            seed: of the order and of `transform`'s generator.
            transform: applied to each example, with its own random generator for each visit.
            collate: examples to a batch; stacks every key by default.
            read_threads: threads that read and transform.
            prefetch: number of batches to read ahead.
            process_index: this process gets the rows from process_index · batch_size /
                process_count of each batch, so that all processes together get the batch of a
                single one.
            process_count: processes that train together; divides batch_size.

        Raises:
            ValueError: a source is empty, or the processes cannot share a batch evenly.
        """
        sources = source.sources if isinstance(source, Buckets) else [source]
        if not sources or not all(len(s) for s in sources):
            raise ValueError("source must hold at least one example, got an empty one")
        if not 0 <= process_index < process_count:
            raise ValueError(f"process_index must be in [0, {process_count}), got {process_index}")
        if batch_size % process_count:
            raise ValueError(
                f"batch_size must be a multiple of the {process_count} processes, got {batch_size}"
            )
        share = slice(process_index, None, process_count)
        batches = []
        for s in sources:
            data = grain.MapDataset.source(s).seed(seed).shuffle().repeat(None)
            if transform is not None:
                data = data.random_map(transform)
            data = data.batch(batch_size // process_count, batch_fn=collate or stack)
            batches.append(data.slice(share) if process_count > 1 else data)
        mixed = batches[0]
        if len(batches) > 1:
            mixed = grain.MapDataset.mix(batches, weights=[len(s) for s in sources])
        # Grain prefetches elements, which are batches here: each thread builds a whole batch.
        options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=prefetch)
        self._iterator = iter(mixed.to_iter_dataset(options))
        self.waited = 0.0

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        start = time.perf_counter()
        batch = next(self._iterator)
        self.waited += time.perf_counter() - start
        return batch

    def position(self) -> dict[str, Any]:
        """JSON data that identifies the next batch, the same in all processes of a run."""
        return self._iterator.get_state()

    def seek(self, position: dict[str, Any]) -> None:
        """Moves to a position returned by `position`."""
        self._iterator.set_state(position)


def stack(examples: Sequence[Example]) -> Batch:
    """Stacks each key of examples of equal shapes."""
    return {key: np.stack([e[key] for e in examples]) for key in examples[0]}


def in_turn(*transforms: Transform) -> Transform:
    """Several transforms, one after the other."""

    def transform(example: Any, rng: np.random.Generator) -> Example:
        for one in transforms:
            example = one(example, rng)
        return example

    return transform


def random_crop(side: int) -> Transform:
    """A transform that cuts a square of `side` pixels out of an example's image."""

    def transform(example: Any, rng: np.random.Generator) -> Example:
        image = example["image"]
        if min(image.shape[:2]) < side:
            raise ValueError(f"crop must be at most {min(image.shape[:2])}, got {side}")
        top, left = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
        return {**example, "image": image[top : top + side, left : left + side]}

    return transform


def only(*keys: str) -> Transform:
    """A transform that keeps the named keys of an example."""
    return lambda example, rng: {key: example[key] for key in keys}
