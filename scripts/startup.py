"""Times the first picture of a process, and its parts: python -m scripts.startup --rounds=5.

A cache of programs is filled first; then processes take turns, and medians are printed, of the time
that passes and of the processor time of all cores. The parts of a picture are those of one process:

- imports: of what `dg2 sample` imports;
- weights: reading the model, its text encoder, and the denoiser's weights;
- tracing: of the programs, or reading what was traced before;
- compiling: by XLA, or loading what was compiled before;
- running: what a second picture takes.
"""

import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping

from absl import flags

from dg2_jax.scripts.command import command

_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each command is timed.", 1)

_SAMPLE = "-m", "dg2_jax.scripts.dg2", "sample", "a lighthouse", "--seed=1"
_SERVE = "-m", "dg2_jax.scripts.dg2", "serve", "--port=0"
_LOAD = "-c", "from dg2_jax import Pipeline; Pipeline.load('demo')"
_PARTS = """
import json, sys, time
start = time.perf_counter()
import jax
import dg2_jax.scripts.sample
from dg2_jax import Pipeline
imported = time.perf_counter()
pipe = Pipeline.load("demo")
pipe.model.params["ema"]
loaded = time.perf_counter()
compiled = []

def listen(event, seconds, **about):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(seconds)

jax.monitoring.register_event_duration_secs_listener(listen)
pipe("a lighthouse", seed=1)
first = time.perf_counter()
compiling = sum(compiled)
pipe("a lighthouse", seed=2)
running = time.perf_counter() - first
print(json.dumps({
    "imports": imported - start, "weights": loaded - imported,
    "tracing": first - loaded - compiling - running, "compiling": compiling, "running": running,
}))
"""
_POLL_SECONDS = 0.02


def measure(rounds: int) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[float]]]:
    """Times each command in new processes.

    Args:
        rounds: how often.

    Returns:
        By command the time that passed and the processor time, of every round; and the times of
        the parts of a picture.
    """
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        env["DG2_DATA"] = f"{folder}/data"
        new = functools.partial(_run, env=env)
        out = f"--out={folder}/pictures"
        cases: dict[str, Callable[[], object]] = {
            "dg2 sample": lambda: new(*_SAMPLE, out),
            "dg2 sample --weights=fast": lambda: new(*_SAMPLE, out, "--weights=fast"),
            "dg2 serve, to the first picture": lambda: _serve(env),
            "import and load": lambda: new(*_LOAD),
        }
        times: dict[str, list[tuple[float, float]]] = {"dg2 sample, empty cache": []}
        times["dg2 sample, empty cache"].append(_seconds(cases["dg2 sample"]))
        for run in cases.values():
            run()
        parts: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, run in cases.items():
                times.setdefault(name, []).append(_seconds(run))
            for name, value in json.loads(new("-c", _PARTS)).items():
                parts.setdefault(name, []).append(value)
    return times, parts


def _run(*arguments: str, env: Mapping[str, str]) -> str:
    return subprocess.run(
        [sys.executable, *arguments], env=env, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _serve(env: Mapping[str, str]) -> None:
    """Starts a server, asks for a picture, waits for it, and kills the server."""
    server = subprocess.Popen(
        [sys.executable, *_SERVE], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if " is at http" in line).split()[-1]
        asks = {"kind": "txt2img", "prompt": "a lighthouse", "seed": 1}
        body = json.dumps(asks).encode()
        asked = {"Content-Type": "application/json"}
        job = _answer(urllib.request.Request(f"{address}/api/v1/jobs", body, asked))
        while job["status"] in ("queued", "running"):
            time.sleep(_POLL_SECONDS)
            job = _answer(urllib.request.Request(f"{address}/api/v1/jobs/{job['id']}"))
        if job["status"] != "done":
            raise RuntimeError(f"the server's first picture: {job}")
    finally:
        server.kill()
        server.wait()


def _answer(request: urllib.request.Request) -> dict:
    with urllib.request.urlopen(request) as response:
        answer: dict = json.load(response)
    return answer


def _seconds(run: Callable[[], object]) -> tuple[float, float]:
    """The time that passes, and the processor time of the processes that end meanwhile."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def run() -> None:
    """Prints both tables."""
    times, parts = measure(_ROUNDS.value)
    print("| command | seconds | of processor time |\n|---|--:|--:|")
    for name, each in times.items():
        passed, used = (statistics.median(values) for values in zip(*each, strict=True))
        print(f"| {name} | {passed:.2f} | {used:.2f} |")
    print("\n| part of a picture | seconds |\n|---|--:|")
    for name, values in parts.items():
        print(f"| {name} | {statistics.median(values):.2f} |")


if __name__ == "__main__":
    command(run)
