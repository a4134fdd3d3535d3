"""Where `data.preparation` runs: in this process, in several on this machine, or on Ray.

`make_worker`, which must be picklable, makes one worker in each process; the worker is then called
with one item at a time.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

ENGINES = ("local", "ray")

Worker = Callable[[int], int]
MakeWorker = Callable[[], Worker]


def run(engine: str, make_worker: MakeWorker, items: Sequence[int], workers: int) -> Iterator[int]:
    """The results of a worker on every item, in order of completion.

    Args:
        engine: one of ENGINES.
        make_worker: makes a worker.
        items: the work.
        workers: number of processes; with "local", 1 is this process itself.

    Raises:
        ValueError: another engine, or Ray is missing.
        Exception: what a worker raised.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    workers = min(workers, len(items))
    if not items:
        return iter(())
    if engine == "ray":
        return _ray(make_worker, items, workers)
    if workers <= 1:
        return map(make_worker(), items)
    return _processes(make_worker, items, workers)


_worker: Worker | None = None


def _start(make_worker: MakeWorker) -> None:
    global _worker
    _worker = make_worker()


def _work(item: int) -> int:
    assert _worker is not None  # the pool initialises every process with `_start`
    return _worker(item)


def _processes(make_worker: MakeWorker, items: Sequence[int], workers: int) -> Iterator[int]:
    # Spawned, not forked: JAX has threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (make_worker,)) as pool:
        futures = [pool.submit(_work, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class _RayWorker:
    """A worker as Ray Data calls it: rows in, rows out."""

    def __init__(self, make_worker: MakeWorker):
        self._worker = make_worker()

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        return {"result": self._worker(int(row["item"]))}


def _ray(make_worker: MakeWorker, items: Sequence[int], workers: int) -> Iterator[int]:
    try:
        import ray.data
    except ImportError as error:
        raise ValueError("engine ray needs: pip install -r requirements/ray.txt") from error
    worker: Any = _RayWorker  # Ray declares that it takes functions alone
    rows = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    done = rows.map(
        worker,
        fn_constructor_args=(make_worker,),
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    for row in done.iter_rows():
        yield int(row["result"])
