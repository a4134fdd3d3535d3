"""Times this project on this machine, beside PyTorch on the same work: python -m scripts.benchmark.

    python -m scripts.benchmark                                         # the embedded model alone
    python -m scripts.benchmark --models=demo,toy,base --against=torch,diffusers \
        --log=docs/performance.jsonl --report=docs/performance.md

The second needs requirements/torch.txt. Every case is compiled and run once beforehand; if torch
does the same work with the same weights, both outputs must agree before anything is timed. Then the
cases of a model take turns for --rounds rounds, so that a noisy machine affects all alike, and the
medians are reported. --log keeps every time; --report builds its tables from it.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import app, flags, logging

from dg2_jax import compile_cache
from dg2_jax.scripts import benchmark_cases, benchmark_report
from dg2_jax.scripts.benchmark_cases import Case, matmul_peak, seconds

_MODELS = flags.DEFINE_list("models", ["demo"], "Of demo, toy and base.")
_AGAINST = flags.DEFINE_list("against", [], "Of torch, torch.compile and diffusers.")
_CASES = flags.DEFINE_string("cases", "", "Only the cases whose name holds this text.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each case is timed.", 1)
_LOG = flags.DEFINE_string("log", "", "Where the raw times go, as JSON lines.")
_REPORT = flags.DEFINE_string("report", "", "Where the tables go, as Markdown; a .png beside it.")
_MEMORY_OF = flags.DEFINE_string(
    "memory_of", "", "Only the memory that sampling with a model takes, as in 'base int8'."
)


def versions() -> dict[str, str]:
    """The versions of the packages measured."""
    names = ("jax", "jaxlib", "flax", "torch", "diffusers")
    installed = {}
    for name in names:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def new_process(*arguments: str, **environment: str) -> str:
    """What Python, called with `arguments`, prints in a new process."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip


def memory_of(model: str) -> dict:
    """The memory that sampling with a model takes; compiling takes memory too, so not the first."""
    for _ in range(2):
        line = new_process("-m", "scripts.benchmark", f"--memory_of={model}")
    return json.loads(line)


def measure(model: str, against: list[str], text: str, rounds: int) -> Iterator[dict]:
    """The records of one model's cases."""
    cases: list[Case] = []
    for case in benchmark_cases.cases(model, against, text):
        start = time.perf_counter()
        case.run()
        print(f"  {model}: {case.name}, {case.implementation}: ready in "
              f"{time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
        cases.append(case)
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for case, taken in zip(cases, times, strict=True):
            taken.append(seconds(case.run))
    for case, taken in zip(cases, times, strict=True):
        yield {
            "model": model, "case": case.name, "implementation": case.implementation,
            "seconds": taken, "gflop": case.gflop,
        }  # fmt: skip


def main(argv: list[str]) -> None:
    """Parses the flags, times, prints a table and writes the requested files."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    for name, given, known in (
        ("models", _MODELS.value, ["demo", "toy", "base"]),
        ("against", _AGAINST.value, ["torch", "torch.compile", "diffusers"]),
    ):
        if not set(given) <= set(known):
            raise app.UsageError(f"--{name} must be of {', '.join(known)}, got {','.join(given)}")
    logging.set_verbosity(logging.WARNING)
    if _MEMORY_OF.value:
        weights, peak = benchmark_cases.sampling_memory(*_MEMORY_OF.value.split())
        print(json.dumps({"weights_mib": weights, "peak_mib": peak}))
        return
    compile_cache.enable()
    head = {
        "command": "python -m scripts.benchmark " + " ".join(sys.argv[1:]),
        "device": jax.devices()[0].device_kind,
        "cpus": len(os.sched_getaffinity(0)),
        "versions": versions(),
        "matmul_gflops": matmul_peak(),
    }
    records: list[dict] = []
    for model in _MODELS.value:
        records += measure(model, _AGAINST.value, _CASES.value, _ROUNDS.value)
        if model != "demo" and not _CASES.value:
            case = {"model": model, "case": "peak memory of sampling"}
            records.append(case | memory_of(model))
        keep(head, records)  # after every model, so that nothing is lost if the next one fails
    print(benchmark_report.markdown(head, records))


def keep(head: dict, records: list[dict]) -> None:
    """Writes the requested files."""
    if _LOG.value:
        lines = [json.dumps(record) for record in [head, *records]]
        Path(_LOG.value).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if _REPORT.value:
        page = Path(_REPORT.value)
        benchmark_report.write(page, benchmark_report.markdown(head, records))
        benchmark_report.draw(records, page.with_suffix(".png"))


if __name__ == "__main__":
    app.run(main)
