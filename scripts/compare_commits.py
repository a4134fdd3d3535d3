"""Compares the speed of two commits: python -m scripts.compare_commits main HEAD --cases="1 step".

Each commit is checked out into a temporary git worktree. scripts.benchmark runs alternately in
both, --rounds times, in this interpreter's environment, so that other work on the machine affects
both. It prints the medians over all rounds, and the first commit's over the second's: above 1 the
second is faster. Both commits must have scripts.benchmark.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

_CASES = flags.DEFINE_string("cases", "", "Only the cases whose name holds this text.")
_MODELS = flags.DEFINE_list("models", ["demo"], "Of demo, toy and base.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each commit's benchmark is run.", 1)
_TIMES = flags.DEFINE_integer("times", 5, "How often each run of it times a case.", 1)

Case = tuple[str, str]  # model, name of the work


def read_times(log: str) -> dict[Case, list[float]]:
    """Our own times in a log of scripts.benchmark: JSON lines after one for the head."""
    records = [json.loads(line) for line in log.splitlines()[1:]]
    return {
        (r["model"], r["case"]): r["seconds"]
        for r in records
        if r.get("implementation") == "dg2_jax"
    }


def pooled(runs: Iterable[Mapping[Case, Sequence[float]]]) -> dict[Case, list[float]]:
    """The times of several runs, case by case."""
    together: dict[Case, list[float]] = {}
    for run in runs:
        for case, seconds in run.items():
            together.setdefault(case, []).extend(seconds)
    return together


def table(
    names: tuple[str, str],
    first: Mapping[Case, Sequence[float]],
    second: Mapping[Case, Sequence[float]],
) -> str:
    """Medians and ratios of the common cases, as Markdown, followed by cases that one lacks."""
    lines = [f"| model | what | {names[0]} | {names[1]} | ratio |", "|---|---|--:|--:|--:|"]
    for case in first:
        if case in second:
            a, b = statistics.median(first[case]), statistics.median(second[case])
            lines.append(f"| {case[0]} | {case[1]} | {a:.4f} s | {b:.4f} s | {a / b:.2f} |")
    for name, own, other in ((names[0], first, second), (names[1], second, first)):
        if alone := [f"{case[0]}: {case[1]}" for case in own if case not in other]:
            lines += ["", f"Only in {name}: {'; '.join(alone)}."]
    return "\n".join(lines)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A temporary worktree of a commit of the repository in the current folder.

    Raises:
        ValueError: there is no such commit.
    """
    known = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", check=False)
    if known.returncode:
        raise ValueError(f"there is no commit {commit}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        _git("worktree", "add", "--quiet", "--detach", str(tree), known.stdout.strip())
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], check=check, stdout=subprocess.PIPE, text=True)


def benchmark(tree: Path) -> dict[Case, list[float]]:
    """Runs the benchmark of a checkout; returns its times."""
    log = tree.parent / "log.jsonl"
    command = [
        sys.executable, "-m", "scripts.benchmark", f"--models={','.join(_MODELS.value)}",
        f"--cases={_CASES.value}", f"--rounds={_TIMES.value}", f"--log={log}",
    ]  # fmt: skip
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return read_times(log.read_text("utf-8"))


def main(argv: list[str]) -> None:
    """Checks out, measures, prints."""
    if len(argv) != 3:
        raise app.UsageError("two commits are needed")
    names = argv[1], argv[2]
    runs: tuple[list[Any], list[Any]] = ([], [])
    with contextlib.ExitStack() as stack:
        try:
            trees = [stack.enter_context(checked_out(name)) for name in names]
        except ValueError as error:
            raise app.UsageError(str(error)) from error
        for turn in range(_ROUNDS.value):
            # The second to run finds a warmer machine, so they take turns at that as well.
            for i in (0, 1) if turn % 2 == 0 else (1, 0):
                print(f"round {turn + 1}, {names[i]}", file=sys.stderr, flush=True)
                runs[i].append(benchmark(trees[i]))
    print(table(names, *map(pooled, runs)))


if __name__ == "__main__":
    app.run(main)
