"""Stages of the long recipes: left out when they are finished, and only then."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
RECIPE = """
set -euo pipefail
PYTHON=python3
. "$STAGES"
stage first first.txt cp "$INPUT" "$OUT/first.txt"
stage second second.txt "$SECOND" "$OUT/second.txt"
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def recipe(tmp_path):
    """Runs the recipe, whose second stage is a command that is given a file to make."""
    (tmp_path / "input").write_text("of the first run")

    def run(second, settings="SCALE=1"):
        environment = {
            **os.environ,
            "STAGES": str(SCRIPTS / "stages.sh"), "OUT": str(tmp_path / "out"), "SCALE": "1",
            "SETTINGS": settings, "INPUT": str(tmp_path / "input"), "SECOND": second,
        }  # fmt: skip
        return subprocess.run(
            ["bash", "-c", RECIPE], env=environment, capture_output=True, text=True
        )

    return run


def test_a_stage_that_ends_without_its_result_is_run_again(recipe, tmp_path):
    stopped = recipe("true")
    assert stopped.returncode == 1
    assert "second is not finished" in stopped.stderr
    (tmp_path / "input").write_text("of the second run")
    done = recipe("touch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("second ")  # its time; the first is left out
    assert (tmp_path / "out" / "first.txt").read_text() == "of the first run"
    times = (tmp_path / "out" / "times.txt").read_text().splitlines()
    assert [line.split()[0] for line in times] == ["first", "second"]
    assert recipe("false").returncode == 0  # nothing is left to do


def test_a_stage_that_fails_ends_the_recipe(recipe):
    assert recipe("false").returncode == 1
    assert recipe("touch").returncode == 0


def test_a_folder_of_other_settings_is_refused(recipe):
    assert recipe("true").returncode == 1
    other = recipe("touch", settings="SCALE=0.01")
    assert other.returncode == 1
    assert "was begun with SCALE=1, not SCALE=0.01" in other.stderr


@pytest.mark.parametrize("name", ["train_demo.sh", "train_on_accelerator.sh"])
def test_the_recipes_are_bash_and_say_what_they_need(name):
    assert subprocess.run(["bash", "-n", SCRIPTS / name]).returncode == 0
    alone = subprocess.run(["bash", SCRIPTS / name], capture_output=True, text=True)
    assert alone.returncode != 0
    assert "usage: scripts/" in alone.stderr
