"""What README and docs say can be followed: links, pictures, commands, snippets, messages."""

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dg2_jax.scripts import dg2
from dg2_jax.serve.server_settings import ServerSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(
            ROOT / name
            for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "bank/README.md")
        ),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "dg2_jax" / "pretrained" / "demo" / "MODEL_CARD.md",
    ]
)
ABSENT = ("…", "...", "|")  # what stands for something else, or is a shell's
ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def ids(path):
    return str(path.relative_to(ROOT))


def code(text):
    """The lines of a page's indented and fenced blocks, and its spans of code."""
    prose = FENCE.sub("", text)
    blocks = [body for language, body in FENCE.findall(text) if language in ("", "sh", "text")]
    blocks += ["\n".join(re.findall(r"^(?: {4}|\t)(.*)", prose, re.MULTILINE))]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines, re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


def split(line):
    """The commands of a line: (variables, words) each."""
    try:
        words = shlex.split(re.sub(r"\$\{?\w+\}?", "0", line), comments=True)
    except ValueError:  # a lone quote: a sentence
        return
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        command, words = words[:end], words[end + 1 :]
        command = command[1:] if command[:1] in (["srun"], ["export"]) else command
        variables = {}
        while command and (match := ASSIGNMENT.fullmatch(command[0])):
            variables[match[1]] = match[2]
            command = command[1:]
        yield variables, command


def commands(path):
    """(line, variables, words) of our commands in a page; words alone name the program if brief."""
    lines, spans = code(path.read_text("utf-8"))
    for line in [*lines, *spans]:
        if line.startswith(("dg2_", "make:", "make it")):
            continue
        for variables, words in split(line):
            if words[:1] == ["dg2"] or words[:1] == ["make"] or words[:2] == ["python", "-m"]:
                yield line, variables, words, line in spans


def module_of(words):
    """The module that a command runs and its arguments; None for those that run none of ours."""
    if words[0] == "dg2":
        name, *arguments = words[1:] or ["help"]
        if name in ("help", "completion", "--version"):
            return None
        assert name in dg2.COMMANDS, f"dg2 has no command {name}"
        return f"dg2_jax.{dg2.COMMANDS[name].module}", arguments
    module, *arguments = words[2:]
    if module.split(".")[0] in ("venv", "pip", "http"):
        return None
    if module in ("serve", "dg2_jax.serve"):
        return "dg2_jax.serve.__main__", arguments
    ours = module.startswith(("scripts", "bank", "serve"))
    return f"dg2_jax.{module}" if ours else module, arguments


def test_the_commands_of_readme_and_docs_are_ones():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    asked, places, wrong = [], [], []
    for path in PAGES:
        for line, variables, words, is_span in commands(path):
            place = f"{ids(path)}: {line}"
            ours = [name for name in variables if name.startswith("DG2_")]
            unknown = [n for n in ours if n[4:].lower() not in ServerSettings.model_fields]
            wrong += [f"{place}: there is no {name}" for name in unknown]
            if words[0] == "make":
                named = [word for word in words[1:] if "=" not in word and word not in ABSENT]
                wrong += [f"{place}: no target {name}" for name in named if name not in targets]
                continue
            try:
                found = module_of(words)
            except AssertionError as error:
                wrong.append(f"{place}: {error}")
                continue
            if found is None:
                continue
            module, arguments = found
            brief = is_span and not arguments
            if brief or any(mark in line for mark in ABSENT):
                wrong += [] if importlib.util.find_spec(module) else [f"{place}: no {module}"]
                continue
            asked.append({"module": module, "arguments": arguments, "variables": variables})
            places.append(place)
    assert len(asked) > 60
    parsed = subprocess.run(
        [sys.executable, "-m", "tests.docs.parse"],
        input=json.dumps(asked), cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    problems = json.loads(parsed.stdout)
    wrong += [f"{p}: {problem}" for p, problem in zip(places, problems, strict=True) if problem]
    assert not wrong, "\n".join(wrong)


def test_a_wrong_command_is_noticed():
    bad = [
        ("dg2_jax.scripts.sample", ["a lake", "--no_such_flag=1"], {}),
        ("dg2_jax.scripts.sample", ["a lake", "--solver=none"], {}),
        ("dg2_jax.scripts.train", ["--config=finetune", "--config.num_stepz=5"], {}),
        ("dg2_jax.scripts.train", ["--config=no_such"], {}),
        ("dg2_jax.scripts.prepare", ["--out=x"], {}),
        ("dg2_jax.scripts.export", ["beside", "--out=x"], {}),
        ("dg2_jax.serve.__main__", ["--no-such"], {}),
        ("dg2_jax.serve.__main__", [], {"DG2_PORT": "x"}),
        ("dg2_jax.scripts.none", [], {}),
        ("dg2_jax.scripts.write_keywords", ["--x"], {}),
    ]
    names = ("module", "arguments", "variables")
    asked = json.dumps([dict(zip(names, one, strict=True)) for one in bad])
    parsed = subprocess.run(
        [sys.executable, "-m", "tests.docs.parse"],
        input=asked, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(json.loads(parsed.stdout)), parsed.stdout


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_links_and_pictures_are_there(path):
    text = FENCE.sub("", path.read_text("utf-8"))
    text = re.sub(r"(?<!`)`[^`\n]+`(?!`)", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "#")):
            continue
        assert not target.startswith(("http:", "/")), target
        file = path.parent / target.partition("#")[0]
        assert file.is_file(), f"{ids(path)}: {target}"
        if file.suffix in (".png", ".gif", ".webp"):
            with Image.open(file) as picture:
                picture.verify()


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_snippets_compile_and_what_they_import_is_there(path):
    for language, body in FENCE.findall(path.read_text("utf-8")):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(body, ids(path))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


def test_the_snippets_of_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture.size))
    names = {}
    for language, body in FENCE.findall((ROOT / "README.md").read_text("utf-8")):
        if language == "python":
            exec(compile(body, "README.md", "exec"), names)
    assert names["result"].images.shape == (4, 128, 128, 3)
    assert shown == [(128, 128)]
    assert len(list((tmp_path / "outputs").glob("*.png"))) == 4


def messages():
    """The messages that the page explains, those of other programs left out."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    for row in re.findall(r"^\| (.*?) \|", text, re.MULTILINE):
        if not row.startswith("JAX: "):
            yield from re.findall(r"`([^`]+)`", row)


def test_the_messages_that_are_explained_are_ours():
    constants = (ROOT / "Makefile").read_text("utf-8").splitlines()
    for folder in ("dg2_jax", "serve", "bank", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text("utf-8")))
            constants += [n.value for n in nodes if isinstance(n, ast.Constant) and n.value]
    known = [" ".join(c.split()) for c in constants if isinstance(c, str)]
    for message in messages():
        for part in message.split("…"):
            part = part.strip()
            if len(part) > 3:
                assert any(part in constant for constant in known), (message, part)
