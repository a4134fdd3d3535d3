"""The notebooks run from beginning to end, with small numbers."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
SMALL = {
    "sampling": {"STEPS": 2, "NUM_IMAGES": 2},
    "fine_tuning": {"PICTURES": 8, "STEPS": 2, "SAMPLE_STEPS": 2},
}


def test_all_notebooks_are_run():
    assert set(SMALL) == {path.stem for path in FOLDER.glob("*.ipynb")}


@pytest.mark.parametrize("name", SMALL)
def test_it_is_stored_without_outputs(name):
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", 4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name, tmp_path, monkeypatch):
    command = tmp_path / "bin" / "dg2"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dg2_jax.scripts.dg2 "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{':'.join(sys.path)}")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    assert set(re.findall(r"^(\w+) = ", parameters.source, re.MULTILINE)) == set(SMALL[name])
    parameters.source = "\n".join(f"{key} = {value}" for key, value in SMALL[name].items())
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=place).execute()
    last = next(cell for cell in reversed(notebook.cells) if cell.cell_type == "code")
    assert any("image/png" in output.get("data", {}) for output in last.outputs)
