"""Compares training runs or noise schedules in a table and a plot.

    python -m scripts.plot --run=runs/curved --run=runs/cosine --out=outputs/curves.png
    python -m scripts.plot --schedule=cosine --schedule=linear --beta2=0.02 --out=outputs/noise.png

Reads the metrics.jsonl of every run. In the plot, lines are the training loss and dots the
validation loss. For schedules it shows β, ᾱ, the signal-to-noise ratio and the Min-SNR weight of
every level. Plotting needs matplotlib (requirements/dev.txt). Without --out only the table is
printed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from dg2_jax.scripts import schedule_plot
from dg2_jax.scripts.command import command

_RUN = flags.DEFINE_multi_string("run", [], "A run's folder; may be repeated.")
_SCHEDULE = schedule_plot.define()
_OUT = flags.DEFINE_string("out", None, "Draw the curves here: .png, .svg or .pdf.")
_TITLE = flags.DEFINE_string("title", "", "Above the curves.")

Line = Mapping[str, float]


def read(folder: Path) -> list[Line]:
    """The lines of a run's log, in step order, without one cut short by a kill.

    Raises:
        FileNotFoundError: the folder has no log.
        ValueError: there is nothing in it.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"run {folder} has no metrics.jsonl")
    lines = []
    for text in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    if not lines:
        raise ValueError(f"run {folder}: {path.name} is empty")
    return lines


def series(lines: Sequence[Line], name: str) -> dict[int, float]:
    """The values of a metric by step."""
    return {int(line["step"]): line[name] for line in lines if name in line}


def table(runs: Mapping[str, Sequence[Line]]) -> str:
    """A Markdown table with one row per run.

    Losses are the last ones; if all runs have validated at a common step, val_loss at the last such
    step is added. Steps per second are the median over the log.
    """
    validated = [series(lines, "val_loss") for lines in runs.values()]
    common = max(set.intersection(*map(set, validated)), default=None)
    head = ["run", "steps", "loss", "val_loss", "steps a second"]
    if common is not None:
        head.insert(4, f"val_loss at {common}")
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for (name, lines), val in zip(runs.items(), validated, strict=True):
        speed = list(series(lines, "steps_per_second").values())
        losses = list(series(lines, "loss").values())
        row = [
            name,
            str(int(lines[-1]["step"])),
            _number(losses[-1:]),
            _number([*val.values()][-1:]),
        ]
        if common is not None:
            row.append(_number([val[common]]))
        rows.append([*row, _number([float(np.median(speed))] if speed else [])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _number(values: Sequence[float]) -> str:
    return f"{values[0]:.4g}" if values else "–"


def draw(runs: Mapping[str, Sequence[Line]], out: Path, title: str = "") -> None:
    """Draws training and validation loss over the steps of all runs."""
    from matplotlib.figure import Figure  # imported late: the table does not need it

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, lines) in enumerate(runs.items()):
        loss, val = series(lines, "loss"), series(lines, "val_loss")
        colour = f"C{i % 10}"
        axes.plot([*loss], [*loss.values()], color=colour, linewidth=1, alpha=0.6, label=name)
        axes.plot([*val], [*val.values()], "o--", color=colour, markersize=4)
    axes.set(xlabel="step", ylabel="loss (dots: validation)", yscale="log", title=title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


def run() -> None:
    """Reads, prints, draws."""
    if bool(_RUN.value) == bool(_SCHEDULE.value):
        raise ValueError("either --run or --schedule must be given, and not both")
    if _SCHEDULE.value:
        described = schedule_plot.described()
        print(schedule_plot.table(described))
        if _OUT.value:
            schedule_plot.draw(described, Path(_OUT.value), _TITLE.value)
            print(_OUT.value)
        return
    folders = [Path(text) for text in _RUN.value]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = list(map(str, folders))
    runs = {name: read(folder) for name, folder in zip(names, folders, strict=True)}
    print(table(runs))
    if _OUT.value:
        draw(runs, Path(_OUT.value), _TITLE.value)
        print(_OUT.value)


if __name__ == "__main__":
    command(run)
