"""The tables and the picture of docs/performance.md, from the records of scripts/benchmark.py."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


def markdown(head: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The measured part of the page.

    A ratio is the others' best time over ours, so above 1 we are faster; a share is the achieved
    FLOP/s over those of a large matrix product.
    """
    peak = head["matmul_gflops"]
    shown = ", ".join(f"{name} {version}" for name, version in head["versions"].items())
    lines = [
        f"    {head['command']}",
        "",
        f"{head['cpus']} cores ({head['device']}), {shown}; float32 matrix product of side 2048: "
        f"{peak:.0f} GFLOP/s.",
        "",
        "| model | what | dg2_jax | others | ratio | share of the peak |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for record, ours, others in _beside(records):
        key, gflop = (record["model"], record["case"]), record.get("gflop")
        named = "; ".join(f"{name} {_time(value)}" for name, value in others.items())
        ratio = f"{min(others.values()) / ours:.2f}" if others else ""
        share = f"{gflop / ours / peak:.0%}" if gflop else ""
        lines.append(f"| {key[0]} | {key[1]} | {_time(ours)} | {named} | {ratio} | {share} |")
    for record in (r for r in records if "peak_mib" in r):
        weights, used = record["weights_mib"], record["peak_mib"]
        lines += [
            "",
            f"Guided sampling of {record['model']} takes {used} MiB at its peak, weights included, "
            f"{used / weights:.2f} times its weights ({weights} MiB).",
        ]
    return "\n".join(lines)


def _beside(
    records: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], float, dict[str, float]]]:
    """Our records, their medians, and by name the others' medians in the same case."""
    timed = [r for r in records if "seconds" in r]
    for record in (r for r in timed if r["implementation"] == "dg2_jax"):
        key = record["model"], record["case"]
        others = {
            r["implementation"]: statistics.median(r["seconds"])
            for r in timed
            if (r["model"], r["case"]) == key and r["implementation"] != "dg2_jax"
        }
        yield record, statistics.median(record["seconds"]), others


def draw(records: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Draws one bar per time of the others, in multiples of ours."""
    from matplotlib.figure import Figure  # imported late: the tables do not need it

    bars = [
        (f"{record['model']}: {record['case']}", name, seconds / ours)
        for record, ours, others in _beside(records)
        for name, seconds in others.items()
    ]
    names = list(dict.fromkeys(name for _, name, _ in bars))
    figure = Figure(figsize=(8, 0.7 + 0.36 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    for i, (_, name, ratio) in enumerate(bars):
        axes.barh(i, ratio, color=f"C{names.index(name)}")
        axes.text(ratio, i, f" {ratio:.2f}  {name}", va="center")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.set_xlim(0, 1.4 * max((ratio for _, _, ratio in bars), default=1))
    axes.invert_yaxis()
    axes.set_xlabel("time taken, in multiples of dg2_jax's")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def write(path: Path, measured: str) -> None:
    """Puts the measured part between the page's two marks; raises ValueError without them."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{path} must hold {_BEGIN} and {_END}")
    path.write_text(f"{before}{_BEGIN}\n{measured}\n{_END}{after}", encoding="utf-8")


def _time(value: float) -> str:
    return f"{1e3 * value:.1f} ms" if value < 1 else f"{value:.2f} s"
