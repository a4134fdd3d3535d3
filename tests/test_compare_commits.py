"""The comparison of two commits: logs read, rounds pooled, ratios shown, worktrees cleaned up."""

import json
import subprocess

import pytest

from dg2_jax.scripts import compare_commits


def log(*records):
    head = {"command": "python -m scripts.benchmark", "matmul_gflops": 200.0}
    return "\n".join(json.dumps(line) for line in [head, *records]) + "\n"


def record(case, *seconds, implementation="dg2_jax"):
    return {
        "model": "demo", "case": case, "implementation": implementation, "seconds": list(seconds)
    }  # fmt: skip


def test_rounds_are_pooled_and_only_our_own_times_count():
    runs = [
        log(record("1 step", 1.0, 3.0), record("1 step", 9.0, implementation="torch")),
        log(record("1 step", 2.0), {"model": "toy", "case": "memory", "peak_mib": 5}),
    ]
    actual = compare_commits.pooled(map(compare_commits.read_times, runs))
    assert actual == {("demo", "1 step"): [1.0, 3.0, 2.0]}


def test_the_table_has_medians_ratios_and_what_one_side_lacks():
    first = {("demo", "1 step"): [3.0, 1.0, 80.0], ("demo", "old"): [1.0]}
    second = {("demo", "1 step"): [1.5, 1.0, 2.0], ("demo", "new"): [1.0]}
    shown = compare_commits.table(("a", "b"), first, second).splitlines()
    assert "| demo | 1 step | 3.0000 s | 1.5000 s | 2.00 |" in shown
    assert "Only in a: demo: old." in shown
    assert "Only in b: demo: new." in shown


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_commit_is_checked_out_for_a_while(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    for text in ("old", "new"):
        (tmp_path / "file").write_text(text)
        git(tmp_path, "add", "file")
        git(tmp_path, "commit", "--quiet", "--message", text)
    monkeypatch.chdir(tmp_path)
    with compare_commits.checked_out("HEAD~1") as tree:
        assert (tree / "file").read_text() == "old"
    assert not tree.exists()
    assert len(git(tmp_path, "worktree", "list").splitlines()) == 1
    assert (tmp_path / "file").read_text() == "new"
    with pytest.raises(ValueError, match="there is no commit nothing"):  # noqa: SIM117
        with compare_commits.checked_out("nothing"):
            pass
