"""Checks that the tests notice changes of the mathematics: python -m tests.mutation --count=30

Changes one operator or constant of a module in dg2_jax/diffusion at a time, in a copy of the
repository, and runs that module's tests. A mutant is caught if a test fails or the tests take too
long; those that survive are printed with their lines, and one that changes no behaviour counts as a
survivor too. The tests of the unchanged modules must pass first. The draw depends on --seed and the
code alone. Exits with 1 if fewer than --least are caught.
"""

import ast
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from absl import app, flags
from tqdm import tqdm

_COUNT = flags.DEFINE_integer("count", 30, "Mutants to try.", 1)
_LEAST = flags.DEFINE_integer("least", 28, "Mutants that must be caught.", 0)
_SEED = flags.DEFINE_integer("seed", 0, "Draws the mutants.")
_ONLY = flags.DEFINE_string("only", "", "Only modules whose name holds this text.")

ROOT = Path(__file__).parents[1]
PACKAGE = Path("dg2_jax/diffusion")
# The tests of a module, where they are not tests/diffusion/test_<module>.py.
TESTS = {
    "prediction": ["tests/diffusion/test_prediction_and_losses.py"],
    "losses": ["tests/diffusion/test_prediction_and_losses.py"],
    "solver_table": ["tests/diffusion/test_solvers.py", "tests/diffusion/test_inpaint.py"],
}
_LIMIT = 300  # seconds of CPU time for the tests of a module; a mutant may loop for ever
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


@dataclass(frozen=True)
class Mutant:
    """A module with one expression in place of another."""

    module: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{PACKAGE / self.module}.py:{self.line}: {self.before}  ->  {self.after}"


def _changed(node: ast.expr) -> ast.expr | None:
    """A copy of an expression with one operator or number changed; None for others."""
    new = deepcopy(node)
    if isinstance(new, ast.BinOp) and type(new.op) in SWAPS:
        new.op = SWAPS[type(new.op)]()
    elif isinstance(new, ast.Compare) and len(new.ops) == 1 and type(new.ops[0]) in SWAPS:
        new.ops[0] = SWAPS[type(new.ops[0])]()
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.USub):
        new = new.operand
    elif isinstance(new, ast.Constant) and type(new.value) is float:
        new.value = 1.5 * new.value + 0.25
    elif isinstance(new, ast.Constant) and type(new.value) is int:
        new.value = new.value + 1
    else:
        return None
    return new


def _expressions(tree: ast.AST) -> Iterator[ast.expr]:
    """Expressions inside functions, without annotations and error messages."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        aside = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Raise | ast.JoinedStr):
            aside.append(node)
        skipped.update(inner for part in aside if part is not None for inner in ast.walk(part))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {node: None for f in functions for part in f.body for node in ast.walk(part)}
    for node in inside:
        if isinstance(node, ast.expr) and node not in skipped:
            yield node


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of a module."""
    text = path.read_text(encoding="utf-8")
    lines = text.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    result = {}
    for node in _expressions(ast.parse(text)):
        changed = _changed(node)
        if changed is None or node.end_lineno is None or node.end_col_offset is None:
            continue
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        data = text.encode()
        after = f"({ast.unparse(changed)})"
        source = (data[:begin] + after.encode() + data[end:]).decode()
        before = data[begin:end].decode()
        result[begin, end] = Mutant(path.stem, node.lineno, before, after, source)
    return list(result.values())


def _tests(module: str) -> list[str]:
    own = f"tests/diffusion/test_{module}.py"
    return TESTS.get(module, [own] if (ROOT / own).is_file() else ["tests/diffusion"])


def _pass(module: str, copy: Path) -> bool:
    """Whether the tests of a module pass in the copy; taking too long is a failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", *_tests(module)]
    run = subprocess.run(command, cwd=copy, capture_output=True, preexec_fn=_limit_cpu_time)
    if run.returncode not in (0, 1, 2, -signal.SIGXCPU):  # pytest itself could not run
        raise RuntimeError((run.stdout + run.stderr).decode()[-2000:])
    return run.returncode == 0


def _limit_cpu_time() -> None:
    """CPU time, because wall-clock time would fail mutants on a busy machine."""
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT, _LIMIT + 10))


def caught(mutant: Mutant, copy: Path) -> bool:
    """Whether the tests fail with the mutant in place."""
    target = copy / PACKAGE / f"{mutant.module}.py"
    good = target.read_text(encoding="utf-8")
    target.write_text(mutant.source, encoding="utf-8")
    try:
        return not _pass(mutant.module, copy)
    finally:
        target.write_text(good, encoding="utf-8")


def main(argv: list[str]) -> None:
    """Draws, tries, and reports."""
    del argv
    modules = [p for p in sorted((ROOT / PACKAGE).glob("*.py")) if p.stem != "__init__"]
    every = [m for path in modules if _ONLY.value in path.stem for m in mutants(path)]
    drawn = random.Random(_SEED.value).sample(every, min(_COUNT.value, len(every)))
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        ignored = shutil.ignore_patterns(".git", ".venv", "docs", "__pycache__", "runs", "outputs")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for module in tqdm(sorted({mutant.module for mutant in drawn}), unit="module"):
            if not _pass(module, copy):
                raise RuntimeError(f"the tests of the unchanged {module} do not pass")
        for mutant in tqdm(drawn, unit="mutant"):
            if not caught(mutant, copy):
                survivors.append(mutant)
                tqdm.write(f"SURVIVED {mutant}")
    print(f"{len(drawn) - len(survivors)} of {len(drawn)} caught ({len(every)} possible)")
    sys.exit(len(drawn) - len(survivors) < _LEAST.value)


if __name__ == "__main__":
    app.run(main)
