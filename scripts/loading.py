"""The pipelines of the sampling scripts: a model, with the adapters that --lora names."""

from absl import flags

from dg2_jax import Pipeline
from dg2_jax.checks import ParameterError

flags.disclaim_key_flags()  # they belong to the script that defines them here, and to its --help


def define_lora() -> flags.FlagHolder[list[str] | None]:
    """Defines --lora, whose value `load` takes."""
    return flags.DEFINE_multi_string(
        "lora", None, "FILE:WEIGHT of an adapter from scripts.train; may be repeated."
    )


def load(model: str, loras: list[str] | None, dtype: str | None = None) -> Pipeline:
    """The pipeline of a model with the adapters of `define_lora`; the default weight is 1.

    Args:
        model: an embedded model's name or a model folder.
        loras: the value of the flag.
        dtype: for `Pipeline.quantized`, after the adapters; None keeps float32.

    Raises:
        ValueError, FileNotFoundError: as `Pipeline.load` and `Pipeline.with_lora`.
    """
    pipe = Pipeline.load(model)
    for given in loras or ():
        path, _, weight = given.rpartition(":")
        try:
            factor = float(weight) if path else 1.0
        except ValueError:
            raise ParameterError("lora", f"must be FILE:WEIGHT, got {given!r}") from None
        pipe = pipe.with_lora(path or weight, factor)
    return pipe if dtype is None else pipe.quantized(dtype)
