"""The tables of docs/performance.md."""

import pytest
from PIL import Image

from dg2_jax.scripts import benchmark_report

HEAD = {
    "command": "python -m scripts.benchmark",
    "device": "cpu",
    "cpus": 2,
    "versions": {"jax": "1"},
    "matmul_gflops": 200.0,
}


def record(implementation, *seconds, gflop=None):
    values = {"implementation": implementation, "seconds": list(seconds), "gflop": gflop}
    return {"model": "toy", "case": "CFG step", **values}


def test_medians_ratio_to_the_best_and_share_of_the_peak():
    records = [
        record("dg2_jax", 0.5, 9.0, 0.4, gflop=50.0),
        record("torch", 1.0, 1.0, 8.0),
        record("torch, channels last", 0.75),
        {"model": "base", "case": "memory", "weights_mib": 1000, "peak_mib": 1250},
    ]
    shown = benchmark_report.markdown(HEAD, records)
    row = "| toy | CFG step | 500.0 ms | torch 1.00 s; torch, channels last 750.0 ms | 1.50 | 50% |"
    assert row in shown
    assert "1.25 times its weights" in shown


def test_the_picture_has_a_bar_for_every_other(tmp_path):
    others = [record("dg2_jax", 0.5), record("torch", 1.0), record("torch, channels last", 0.75)]
    benchmark_report.draw(others, tmp_path / "three.png")
    benchmark_report.draw(others[:2], tmp_path / "two.png")
    with Image.open(tmp_path / "three.png") as three, Image.open(tmp_path / "two.png") as two:
        assert three.height > two.height > 50


def test_only_the_part_between_the_marks_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nb\n")
    benchmark_report.write(page, "new")
    assert page.read_text() == "a\n<!-- measured: begin -->\nnew\n<!-- measured: end -->\nb\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="must hold"):
        benchmark_report.write(page, "new")
