"""Parses commands as their programs would, and stops before these do anything.

Reads a JSON list of {"module", "arguments", "variables"}, and writes one of what is wrong with
each, null where it is fine. Each is parsed in a process of its own, since scripts
define flags of the same names; what is imported here is imported once.
"""

import argparse
import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

import absl.app
from absl import flags

import dg2_jax.evaluation.probe
import dg2_jax.pipeline
import dg2_jax.serve.observe
import dg2_jax.training.export
import dg2_jax.training.loop
from dg2_jax import compile_cache

_HELP = {"--help", "--helpshort", "--helpfull"}
_PARSERS = ("command(", "app.run", "launch(", "argparse", "command_line", "fleet.process")


class Parsed(BaseException):
    """Raised where a program has read its arguments."""


def _parsed(*_, **__):
    raise Parsed


def _run(main, argv=None, flags_parser=flags.FLAGS):
    """As `absl.app.run`; scripts with `command` go on to look at what is beside the flags."""
    rest = flags_parser(argv or sys.argv)
    try:
        main(rest) if main.__qualname__.startswith("command.") else _parsed()
    except absl.app.UsageError as error:
        sys.exit(str(error))


def problem(module, arguments, variables):
    """What is wrong with a command; None if nothing is."""
    os.environ.update(variables)
    sys.argv = [module, *arguments]
    compile_cache.enable = _parsed
    absl.app.run = _run
    dg2_jax.serve.observe.configure_logging = _parsed  # after the server has read its settings
    if module not in ("dg2_jax.serve.__main__", "dg2_jax.serve.worker"):
        parse_args = argparse.ArgumentParser.parse_args
        argparse.ArgumentParser.parse_args = lambda *a: _parsed(parse_args(*a))
    absl.app.define_help_flags()
    file = Path(*module.removeprefix("dg2_jax.").split(".")).with_suffix(".py")
    if not file.is_file():
        return f"there is no {file}"
    if arguments and set(arguments) <= _HELP:
        return None
    if not any(parser in file.read_text("utf-8") for parser in _PARSERS):
        return f"takes no arguments, got {arguments}" if arguments else None
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Parsed:
        return None
    except SystemExit as error:
        return f"{error} {said.getvalue()}".strip()
    return "did not read its arguments"


def main():
    """Parses all, a child process each."""
    problems = []
    for command in json.load(sys.stdin):
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            try:
                answer = problem(**command)
            except Exception as error:
                answer = repr(error)
            with os.fdopen(write, "w") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            problems.append(json.load(pipe))
        os.waitpid(child, 0)
    json.dump(problems, sys.stdout)


if __name__ == "__main__":
    main()
