"""Times the search and measures its recall on synthetic vectors.

    python -m bank.benchmark                      # 1,000,000 vectors
    python -m bank.benchmark --vectors=100000

The vectors are synthetic but clustered as embeddings are (`dg2_jax.bank.synthetic`), the queries
new draws from the same clusters. Time is of single queries, one after the other.
"""

import time

import faiss
import numpy as np
from absl import app, flags

from dg2_jax.bank.search import VectorIndex
from dg2_jax.bank.synthetic import DIMENSION, ClusteredVectors, effective_dimension

_PART = 50_000  # rows made at a time

_VECTORS = flags.DEFINE_integer("vectors", 1_000_000, "how many vectors", lower_bound=1000)
_QUERIES = flags.DEFINE_integer("queries", 500, "how many queries", lower_bound=10)
_PROBES = flags.DEFINE_list("probes", ["8", "16", "32", "64"], "cells visited, several to compare")
_SEED = flags.DEFINE_integer("seed", 0, "seed of the vectors", lower_bound=0)


def median_search_ms(index: VectorIndex, queries: np.ndarray, k: int = 5) -> float:
    """Median time of one search in milliseconds."""
    times = []
    for query in queries:
        start = time.perf_counter()
        index.search(query, k)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def main(argv: list[str]) -> None:
    """Runs it and prints one line for each number of probes."""
    del argv
    source = ClusteredVectors(_SEED.value)
    vectors = np.empty((_VECTORS.value, DIMENSION), np.float32)
    for first in range(0, len(vectors), _PART):
        part = vectors[first : first + _PART]
        part[:] = source.draw(len(part))
    queries = source.draw(_QUERIES.value)
    print(
        f"{len(vectors):,} clustered synthetic vectors of {DIMENSION}-d; "
        f"effective dimension {effective_dimension(vectors[:20_000]):.0f}"
    )

    index = VectorIndex(DIMENSION)
    start = time.perf_counter()
    index.add(np.arange(len(vectors), dtype=np.int64), vectors)
    built = time.perf_counter() - start
    kind = f"{index.cells} inverted lists" if index.cells else "exhaustive"
    print(f"{kind}, built in {built:.0f} s, {faiss.omp_get_max_threads()} threads")
    del vectors

    for probes in map(int, _PROBES.value) if index.cells else [0]:
        index.probes = probes
        recall = index.recall(queries, 5)
        median = median_search_ms(index, queries)
        print(f"probes {probes:3d}: recall@5 {recall:.3f}, median search {median:.2f} ms")


if __name__ == "__main__":
    app.run(main)
