"""The pipelines of the sampling scripts: a model as its flags say, with adapters of --lora."""

from typing import Any

from absl import flags

from dg2_jax import Pipeline
from dg2_jax.checks import ParameterError
from dg2_jax.diffusion import prediction

flags.disclaim_key_flags()  # they belong to the script that defines them here, and to its --help


def define_lora() -> flags.FlagHolder[list[str] | None]:
    """Defines --lora, whose value `load` takes."""
    return flags.DEFINE_multi_string(
        "lora", None, "FILE:WEIGHT of an adapter from scripts.train; may be repeated."
    )


def define_source() -> dict[str, flags.FlagHolder]:
    """The flags of what a Stable Diffusion file cannot tell, for `source_options`."""
    return {
        "prediction_type": flags.DEFINE_enum(
            "prediction_type", None, prediction.PREDICTION_TYPES,
            "Of a Stable Diffusion file that does not say: what the model predicts.",
        ),
        "zero_terminal_snr": flags.DEFINE_bool(
            "zero_terminal_snr", None,
            "Of a Stable Diffusion file that does not say: whether its noise ends in pure noise.",
        ),
        "few_steps": flags.DEFINE_integer(
            "few_steps", None,
            "Of a Stable Diffusion model distilled to so many unguided steps (Lightning, Hyper).",
        ),
        "variant": flags.DEFINE_string(
            "variant", None, "Of the weights of a diffusers folder, such as fp16."
        ),
        "taesd": flags.DEFINE_string(
            "taesd", None, "Folder or hub id of a TAESD for a Stable Diffusion model."
        ),
        "config": flags.DEFINE_string(
            "model_config", None, "A diffusers folder with configurations for a single file."
        ),
    }  # fmt: skip


def define_folders() -> dict[str, flags.FlagHolder]:
    """The flags of the folders whose files prompts and controls name."""
    helps = {
        "loras": "Folder of LoRA files, which prompts name: <lora:name:0.8>.",
        "embeddings": "Folder of textual-inversion embeddings, whose names are words of prompts.",
        "controlnets": "Folder of ControlNets, which --controlnet names.",
        "wildcards": "Folder of lists, one text per line, which prompts name: __season__.",
    }
    return {name: flags.DEFINE_string(name, None, text) for name, text in helps.items()}


def source_options(holders: dict[str, flags.FlagHolder]) -> dict[str, Any]:
    """The keyword arguments of `Pipeline.load` that the command line gives."""
    return {name: one.value for name, one in holders.items() if one.value is not None}


def load(
    model: str,
    loras: list[str] | None,
    dtype: str | None = None,
    source: dict[str, flags.FlagHolder] | None = None,
) -> Pipeline:
    """The pipeline of a model with the adapters of `define_lora`; no weight is 1.

    Args:
        model: as of `Pipeline.load`.
        loras: the value of the flag.
        dtype: what `Pipeline.quantized` is given, after the adapters; None leaves float32.
        source: the flags of `define_source` and `define_folders`, where the script has them.

    Raises:
        ValueError, FileNotFoundError: as `Pipeline.load` and `Pipeline.with_lora`.
    """
    pipe = Pipeline.load(model, **source_options(source or {}))
    for given in loras or ():
        path, _, weight = given.rpartition(":")
        try:
            factor = float(weight) if path else 1.0
        except ValueError:
            raise ParameterError("lora", f"must be FILE:WEIGHT, got {given!r}") from None
        pipe = pipe.with_lora(path or weight, factor)
    return pipe if dtype is None else pipe.quantized(dtype)
