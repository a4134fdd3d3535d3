"""Nearest vectors by inner product: exact while a bank is small, inverted lists once it is large.

The index is FAISS's. Up to `FLAT_LIMIT` vectors it is `IndexFlatIP` under `IndexIDMap2`, which
compares a query with every vector. Beyond, it is inverted lists (`IndexIVFScalarQuantizer`, one
float16 number per coordinate): a query visits the nearest `PROBES` k-means cells. HNSW graphs are
as fast, but FAISS cannot remove vectors from them, and banks shrink as well as grow.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import faiss as _faiss
import numpy as np

faiss: Any = _faiss  # its type stubs lack half of what is used here

FLAT_LIMIT = 100_000
PROBES = 32  # chosen by `python -m bank.benchmark`, see README.md
_POINTS_PER_CELL = 40  # k-means sees a sample of this size
_ROUNDS = 5


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """A single query gains nothing from threads, and loses much where the cores are busy."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


class VectorIndex:
    """Vectors of length 1 under int64 ids. Not thread-safe: `Bank` holds the lock.

    Args:
        dimension: D of a vector.
        flat_limit: the largest number of vectors that are searched exhaustively.
        probes: cells that a query visits beyond that.
    """

    def __init__(self, dimension: int, flat_limit: int = FLAT_LIMIT, probes: int = PROBES):
        self.dimension = dimension
        self.flat_limit = flat_limit
        self.probes = probes
        self._cells = 0  # 0: exhaustive
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def cells(self) -> int:
        """Number of inverted lists; 0 while the search is exhaustive."""
        return self._cells

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Adds vectors (n, D) float32 under new ids (n,) int64.

        An index that outgrows its cells (past `flat_limit`, then at about every fourfold growth)
        is retrained and refilled, which is the expensive part; see README.md.
        """
        cells = self._cells_for(len(self) + len(ids))
        if cells > self._cells:
            old_ids, old = self._everything()
            self._train(cells, np.concatenate([old, vectors]) if len(old) else vectors)
            self._index.add_with_ids(old, old_ids)
        self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), ids)

    def remove(self, ids: np.ndarray) -> None:
        """Removes the vectors of these ids (n,) int64, all of which must be there."""
        removed = self._index.remove_ids(faiss.IDSelectorArray(np.ascontiguousarray(ids)))
        assert removed == len(ids), (removed, len(ids))

    def search(
        self, query: np.ndarray, k: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best scores and their ids, best first; fewer if there are fewer.

        Args:
            query: (D,) float32.
            k: how many.
            among: ids to choose from; None is all. Then every cell is visited, so that a small
                selection is not missed.
        """
        k = min(k, len(self) if among is None else len(among))
        if k == 0:
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        selector = None if among is None else faiss.IDSelectorBatch(np.ascontiguousarray(among))
        parameters = self._parameters(self.probes if among is None else self._cells, selector)
        with _one_thread():
            scores, ids = self._index.search(query[None], k, params=parameters)
        is_hit = ids[0] >= 0
        return scores[0][is_hit], ids[0][is_hit]

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """The vectors (n, D) of these ids, as the index holds them."""
        return np.stack([self._index.reconstruct(int(i)) for i in ids])

    def recall(self, queries: np.ndarray, k: int, probes: int | None = None) -> float:
        """Share of the true k best of queries (n, D) that a search of `probes` cells finds."""
        if not self._cells:
            return 1.0
        exact = self._index.search(queries, k, params=self._parameters(self._cells, None))[1]
        probes = self.probes if probes is None else probes
        probed = self._index.search(queries, k, params=self._parameters(probes, None))[1]
        hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, probed, strict=True)]
        return sum(hits) / exact.size

    def _cells_for(self, count: int) -> int:
        return 0 if count <= self.flat_limit else 1 << round(np.log2(4 * count**0.5))

    def _parameters(self, probes: int, selector: Any) -> Any:
        if self._cells:
            return faiss.SearchParametersIVF(sel=selector, nprobe=min(probes, self._cells))
        return faiss.SearchParameters(sel=selector)

    def _train(self, cells: int, vectors: np.ndarray) -> None:
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(self.dimension),
            self.dimension,
            cells,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
            False,  # the vectors themselves, not what a cell's centre leaves
        )
        index.cp.niter = _ROUNDS
        index.cp.spherical = True
        index.cp.max_points_per_centroid = _POINTS_PER_CELL
        index.cp.min_points_per_centroid = 1
        index.train(np.ascontiguousarray(vectors, np.float32))
        index.set_direct_map_type(faiss.DirectMap.Hashtable)
        self._index, self._cells = index, cells

    def _everything(self) -> tuple[np.ndarray, np.ndarray]:
        """All ids (n,) and vectors (n, D)."""
        if not self._cells:
            ids = faiss.vector_to_array(self._index.id_map)
            return ids, self._index.index.reconstruct_n(0, len(ids))
        lists = self._index.invlists
        sizes = [lists.list_size(i) for i in range(self._cells)]
        parts = [faiss.rev_swig_ptr(lists.get_ids(i), n) for i, n in enumerate(sizes) if n]
        ids = np.concatenate(parts)
        return ids, self._index.reconstruct_batch(ids)
