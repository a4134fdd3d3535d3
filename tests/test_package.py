"""The wheel in an environment of its own, outside the checkout: one package, and its commands."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import httpx
import pytest

import dg2_jax
from dg2_jax.data import balloons
from dg2_jax.scripts import dg2

ROOT = Path(__file__).parents[1]
STEPS = [
    *("--config.num_steps=5", "--config.batch_size=2"),
    "--config.loop.sample_every=0",
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with the wheel, and the libraries of this one; an empty folder."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"  # what builds write next to the code stays out of the checkout
    ignored = shutil.ignore_patterns(".git", ".venv*", "outputs", "runs", "tests", "*.egg-info")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(build, check=True, timeout=300)
    venv.create(folder / "env")
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = [*pip, "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=300)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    ours = {p.name for p in packages.iterdir() if not p.name.endswith(".dist-info")}
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "empty").mkdir()
    return python, ours, folder / "empty"


def run(environment, *command, code=0):
    """The output of a command of the environment in the empty folder."""
    python, _, folder = environment
    settings = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")}
    done = subprocess.run(
        [python.with_name(command[0]), *command[1:]],
        cwd=folder,
        env=settings,
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_it_brings_one_package_of_ours(environment):
    _, ours, _ = environment
    assert ours - {"__pycache__"} == {"dg2_jax"}
    where = run(environment, "python", "-c", "import dg2_jax; print(dg2_jax.__file__)")
    assert str(ROOT) not in where


def test_it_makes_a_picture(environment):
    shown = run(environment, "dg2", "sample", "a volcano at sunset", "--num-inference-steps=2")
    assert (environment[2] / shown.splitlines()[0]).is_file()


def test_it_fine_tunes(environment):
    folder = environment[2] / "balloons"
    balloons.draw(folder, 6)
    run(environment, "dg2", "prepare", f"--source={folder}", "--model=demo", "--out=mine",
        "--validation_share=0.3")  # fmt: skip
    shown = run(environment, "dg2", "train", "--config=finetune", "--data_dir=mine",
                "--workdir=tuned", *STEPS)  # fmt: skip
    assert (environment[2] / "tuned" / "model" / "config.json").is_file(), shown


def test_it_serves(environment):
    python, _, folder = environment
    command = [python.with_name("dg2"), "serve", "--port=0", f"--data={folder / 'server'}"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stdout if "dg2_jax is at" in line)
        url = re.search(r"http://\S+", line)[0]
        assert "<title>" in httpx.get(url, timeout=60).text
        names = {model["name"] for model in httpx.get(f"{url}/api/v1/models").json()["models"]}
        assert names == {"demo"}
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_the_commands_are_told_by_group():
    text = dg2.overview()
    for name, command in dg2.COMMANDS.items():
        assert f"dg2 {name}" in text
        assert text.index(command.group) < text.index(f"dg2 {name}")
    assert dg2_jax.__version__ in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampel"], "dg2 has no command 'sampel'; did you mean sample?"),
        (["quux"], "dg2 has no command 'quux'; dg2 alone lists them"),
        (["completion", "tcsh"], "completion is for bash or zsh"),
        (["import", "one"], "needed beside the flags: SOURCE OUT"),
        (["train", "--config=fintune"], "config must be a file or one of"),
    ],
)
def test_what_is_wrong_is_said(arguments, message):
    command = [sys.executable, "-m", "scripts.dg2", *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode
    assert message in done.stdout + done.stderr


def test_bash_completes_the_commands():
    script = (
        f"{dg2.completion('bash')}\nCOMP_WORDS=(dg2 tr); COMP_CWORD=1; _dg2; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["train", "train-vae"]
