"""The command `dg2`: one name for what `python -m scripts.*`, `serve` and `bank.build` do.

dg2                     lists the commands
dg2 sample --helpshort  the flags of one
"""

import difflib
import runpy
import sys
from typing import NamedTuple

import dg2_jax


class Command(NamedTuple):
    """A command.

    Attributes:
        group: under which it is listed.
        module: run as the main program.
        text: what it is for.
        example: its arguments.
    """

    group: str
    module: str
    text: str
    example: str


_PICTURES, _OWN, _MODELS, _MACHINE = (
    "Pictures", "Your own data", "Models and banks", "This machine",
)  # fmt: skip
COMMANDS = {
    "serve": Command(_PICTURES, "serve.__main__", "the web page and the HTTP API", "--port=8000"),
    "worker": Command(
        _PICTURES, "serve.worker", "compute for servers with --workers=0", "--model=demo"
    ),
    "sample": Command(
        _PICTURES, "scripts.sample", "make or edit pictures", '"a volcano at sunset" --num_images=4'
    ),
    "grid": Command(
        _PICTURES,
        "scripts.grid",
        "compare values of one or two controls",
        '"a lake" --x=guidance_scale=1,2.5,6',
    ),
    "prepare": Command(
        _OWN, "scripts.prepare", "encode pictures with captions", "--source=photos --out=encoded"
    ),
    "train": Command(
        _OWN, "scripts.train", "train or fine-tune a model", "--config=finetune --data_dir=encoded"
    ),
    "train-vae": Command(
        _OWN, "scripts.train_vae", "train an autoencoder", "--config=demo_vae --data_dir=data"
    ),
    "distill": Command(
        _OWN, "scripts.distill", "teach a model to need 4 steps", "--config.init_from=runs/demo"
    ),
    "evaluate": Command(_OWN, "scripts.evaluate", "measure a model", "--model=runs/demo/model"),
    "plot": Command(_OWN, "scripts.plot", "plot runs or noise schedules", "--schedule=cosine"),
    "import": Command(
        _MODELS, "scripts.import_checkpoint", "convert a checkpoint", "model.safetensors models/sd"
    ),
    "export": Command(
        _MODELS, "scripts.export", "write a model folder", "--workdir=runs/demo --out=models/mine"
    ),
    "bank": Command(_MODELS, "bank.build", "build a prompt bank", "--prompts=prompts --out=bank"),
    "bench": Command(_MACHINE, "scripts.benchmark", "time the library here", "--models=demo"),
    "accelerator": Command(
        _MACHINE, "scripts.check_accelerator", "compare a GPU or TPU with the CPU", "--parts=parity"
    ),
    "doctor": Command(_MACHINE, "scripts.doctor", "check that everything is in place", ""),
}


def overview() -> str:
    """The commands by group, with an example each."""
    lines = [f"dg2_jax {dg2_jax.__version__}: text-conditioned latent diffusion in JAX.", ""]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines.append(group)
        for name, command in COMMANDS.items():
            if command.group == group:
                lines.append(f"  {name:<11} {command.text}")
                lines.append(f"              dg2 {name} {command.example}".rstrip())
        lines.append("")
    lines.append("The flags of a command: dg2 COMMAND --helpshort (dg2 serve --help)")
    lines.append('Completion in a shell: eval "$(dg2 completion bash)", or zsh')
    return "\n".join(lines)


def completion(shell: str) -> str:
    """A script that has a shell complete the commands.

    Raises:
        SystemExit: another shell than bash and zsh.
    """
    names = " ".join([*COMMANDS, "completion"])
    if shell == "bash":
        return (
            f"_dg2() {{ [ $COMP_CWORD = 1 ] && COMPREPLY=($(compgen -W '{names}' -- "
            '"${COMP_WORDS[1]}")); }\ncomplete -o default -F _dg2 dg2'
        )
    if shell == "zsh":
        lines = " ".join(f"'{name}:{command.text}'" for name, command in COMMANDS.items())
        return (
            f"_dg2() {{ local -a names; names=({lines}); "
            "if (( CURRENT == 2 )); then _describe command names; else _files; fi }\n"
            "compdef _dg2 dg2"
        )
    sys.exit("completion is for bash or zsh")


def main() -> None:
    """Runs the command that the first argument names."""
    name, *arguments = sys.argv[1:] or ["help"]
    if name in ("help", "-h", "--help", "--helpshort"):
        print(overview())
    elif name in ("version", "--version"):
        print(dg2_jax.__version__)
    elif name == "completion":
        print(completion(*arguments[:1] or ["bash"]))
    elif name in COMMANDS:
        sys.argv = [f"dg2 {name}", *arguments]
        module = f"dg2_jax.{COMMANDS[name].module}"
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except ModuleNotFoundError as error:
            missing = str(error.name).partition(".")[0]
            if missing == "dg2_jax":
                raise
            extra = "train" if module.startswith("dg2_jax.scripts") else "serve"
            sys.exit(f'error: dg2 {name} needs {missing}: pip install "dg2_jax[{extra}]"')
    else:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f"did you mean {near[0]}?" if near else "dg2 alone lists them"
        sys.exit(f"error: dg2 has no command {name!r}; {meant}")


if __name__ == "__main__":
    main()
