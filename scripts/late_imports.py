"""Lists imports of the project's own modules inside functions: python -m scripts.late_imports.

Imports belong at the head of a file. One inside a function may hide a circle of modules, so a
comment beside it or on the line above must give the reason. Exits with 1 if a reason is missing. An
import for type checkers alone (`if TYPE_CHECKING:`) is not late.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDERS = ("dg2_jax", "bank", "serve", "scripts", "configs")


class LateImport(NamedTuple):
    """An import inside a function.

    Attributes:
        line: number, from 1.
        module: the imported module.
        reason: the comment; empty if there is none.
    """

    line: int
    module: str
    reason: str


def late_imports(source: str) -> Iterator[LateImport]:
    """The imports of the project's own modules inside the functions of a Python source text."""
    lines = source.splitlines()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = {
        node
        for function in ast.walk(ast.parse(source))
        if isinstance(function, functions)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for node in sorted(inside, key=lambda node: node.lineno):
        if isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        else:
            modules = [alias.name for alias in node.names]
        for module in modules:
            if module.startswith(".") or module.split(".")[0] == "dg2_jax":
                yield LateImport(node.lineno, module, _reason(lines, node))


def _reason(lines: list[str], node: ast.stmt) -> str:
    """The comment beside an import, or the comment that is the line above it."""
    beside = lines[node.lineno - 1 : node.end_lineno]
    above = [lines[node.lineno - 2]] if node.lineno > 1 else []
    comments = [line.strip()[1:] for line in above if line.strip().startswith("#")]
    comments += [line.partition("#")[2] for line in beside]
    text = re.sub(r"\b(noqa|type: ignore)\S*( [A-Z]+\d+,?)*", "", " ".join(comments))
    return " ".join(text.split())


def main() -> None:
    """Prints `path:line: module: reason`."""
    root, missing = Path(__file__).resolve().parents[1], 0
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for late in late_imports(path.read_text("utf-8")):
                missing += not late.reason
                reason = late.reason or "WITHOUT A REASON"
                print(f"{path.relative_to(root)}:{late.line}: {late.module}: {reason}")
    sys.exit(f"{missing} late imports have no reason" if missing else None)


if __name__ == "__main__":
    main()
