"""Times this project on this machine, beside PyTorch on the same work: python -m scripts.benchmark.

    python -m scripts.benchmark                                         # the embedded model alone
    python -m scripts.benchmark --models=demo,toy,base --against=torch,diffusers \
        --log=docs/performance.jsonl --report=docs/performance.md

The second needs requirements-torch.txt. Every case is compiled and run once beforehand; if torch
does the same work with the same weights, both outputs must agree before anything is timed. Then the
cases of a model take turns for --rounds rounds, so that a noisy machine affects all alike, and the
medians are reported. --log keeps every time; --report builds its tables from it.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import app, flags, logging

from dg2_jax import compile_cache
from dg2_jax.pipeline import Pipeline
from scripts import benchmark_cases, benchmark_report
from scripts.benchmark_cases import Case, matmul_peak, seconds

_MODELS = flags.DEFINE_list("models", ["demo"], "Of demo, toy and base.")
_AGAINST = flags.DEFINE_list("against", [], "Of torch, torch.compile and diffusers.")
_CASES = flags.DEFINE_string("cases", "", "Only the cases whose name holds this text.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each case is timed.", 1)
_LOG = flags.DEFINE_string("log", "", "Where the raw times go, as JSON lines.")
_REPORT = flags.DEFINE_string("report", "", "Where the tables go, as Markdown; a .png beside it.")
_PROCESS = flags.DEFINE_string("process", "", "Internal: what a new process measures.")


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


def new_process(what: str, **environment: str) -> str:
    """The last line printed by this script in a new process that measures `what`."""
    command = [sys.executable, "-m", "scripts.benchmark", f"--process={what}"]
    process = subprocess.run(
        command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return process.stdout.splitlines()[-1]


def measured_in_processes() -> Iterator[dict]:
    """The first picture with an empty and with a filled cache of programs; imports; memory."""
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first picture, empty cache", "first picture, filled cache"):
            took = seconds(lambda: new_process("picture", JAX_COMPILATION_CACHE_DIR=cache))
            yield {"model": "demo", "case": name, "implementation": "dg2_jax", "seconds": [took]}
    imports = [float(new_process("import")) for _ in range(3)]
    yield {
        "model": "demo", "case": "import dg2_jax", "implementation": "dg2_jax", "seconds": imports
    }  # fmt: skip


def in_this_process(what: str) -> None:
    """The other side of `new_process`."""
    if what == "import":
        command = (
            "import time; t = time.perf_counter(); import dg2_jax; print(time.perf_counter() - t)"
        )
        print(subprocess.check_output([sys.executable, "-c", command], text=True).strip())
    elif what == "picture":
        compile_cache.enable()
        Pipeline.load("demo")("a volcano at sunset")
        print("done")
    else:
        weights, peak = benchmark_cases.sampling_memory(*what.removeprefix("memory ").split())
        print(json.dumps({"weights_mib": weights, "peak_mib": peak}))


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
    if _PROCESS.value:
        in_this_process(_PROCESS.value)
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
            new_process(f"memory {model}")  # the first run compiles, which takes memory too
            memory = json.loads(new_process(f"memory {model}"))
            records.append({"model": model, "case": "peak memory of sampling", **memory})
        elif not _CASES.value:
            records += measured_in_processes()
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
