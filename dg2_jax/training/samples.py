"""Sample grids: one column per prompt, one row per guidance scale, always the same noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax.checks import check
from dg2_jax.data.text_files import decode, lines
from dg2_jax.files import replacing
from dg2_jax.interop.dg2_prompts import read_evaluation_prompts
from dg2_jax.models import model
from dg2_jax.models.model import Network, Params
from dg2_jax.nn.modules import bound
from dg2_jax.pipeline import Pipeline
from dg2_jax.text.encoder import Encoding, TextEncoder
from dg2_jax.text.interface import PromptEncoder
from dg2_jax.text.prompt_syntax import literal
from dg2_jax.training import export
from dg2_jax.training.data import TrainingData
from dg2_jax.training.runs import DenoiserRunConfig

_STEPS = 20
_SOLVER = "dpmpp_2m"


def make_sample_grid(
    network: Network, config: DenoiserRunConfig, data: TrainingData
) -> Callable[..., np.ndarray]:
    """Loads the autoencoder and the text encoder; compiles nothing until it is called.

    Args:
        network: the denoiser.
        config: the run, with its prompts and guidance scales; 1 is unguided.
        data: of the run.

    Raises:
        FileNotFoundError, ValueError: the file of prompts is missing, damaged or of other tokens.

    Returns:
        The denoiser's weights, and the text encoder if it is trained too, to a picture, uint8
        (rows · H, columns · W, 3).
    """
    description = export.description(config, data)
    autoencoder = data.load_autoencoder()
    prompts: Sequence[str]
    if config.sample_prompts_file.endswith(".pt"):
        evaluation = recorded(config.sample_prompts_file, data.context_dim)
        text_encoder: PromptEncoder = evaluation
        prompts = evaluation.prompts
    else:
        text_encoder = data.load_text_encoder()
        prompts = prompts_of(config, data)
        if prompts == data.captions:  # which know no syntax of prompts
            prompts = [literal(caption) for caption in prompts]

    def grid(params: Params, trained_text: PromptEncoder | None = None) -> np.ndarray:
        current = model.create(
            description, bound(autoencoder), lambda name, shapes: params, denoiser=network
        )
        pipe = Pipeline(current, trained_text or text_encoder)
        rows = [
            pipe(prompts, num_inference_steps=_STEPS, solver=_SOLVER, guidance_scale=scale).images
            for scale in config.sample_guidance or (1.0,)
        ]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)

    return grid


def prompts_of(config: DenoiserRunConfig, data: TrainingData) -> tuple[str, ...]:
    """The prompts of a sample grid's columns."""
    path = Path(config.sample_prompts_file)
    if path.suffix == ".pt":
        return read_evaluation_prompts(path).prompts
    given = config.sample_prompts
    if config.sample_prompts_file:
        text = decode(path.read_bytes(), f"sample_prompts_file: {path}")
        given += tuple(line.strip() for line in lines(text) if line.strip())
    return given or data.captions or ("",)


def write_prompts(workdir: Path, config: DenoiserRunConfig, data: TrainingData) -> None:
    """Writes samples/prompts.txt, one line per column of the grids."""
    folder = workdir / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "prompts.txt") as partial:
        partial.write_text("\n".join(prompts_of(config, data)) + "\n", "utf-8")


@dataclass(frozen=True, eq=False)
class _Recorded(TextEncoder):
    """A text encoder of pre-encoded tokens, looked up by names that stand for the prompts."""

    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def prompts(self) -> list[str]:
        """The names in order, without the one of the empty prompt."""
        return [name for name in self.tokens if name]

    def encode(self, prompts: Sequence[str]) -> Encoding:
        """The tokens of some names; all of them count as real."""
        context = jnp.asarray(np.stack([self.tokens[name] for name in prompts]))
        return Encoding(
            context, jnp.ones(context.shape[:2], bool), jnp.zeros((len(prompts), 1), jnp.float32)
        )


def recorded(path: str, context_dim: int) -> _Recorded:
    """A text encoder of DiffusionGen2's evaluation prompts; the empty prompt is theirs too."""
    given = read_evaluation_prompts(path)
    length, width = given.null.shape
    check(width == context_dim, "sample_prompts_file", f"of tokens of width {context_dim}", width)
    tokens = {f"prompt {i}": rows for i, rows in enumerate(given.context)}

    def forward(*_: object) -> tuple[jax.Array, jax.Array]:
        raise ValueError("evaluation prompts are encoded already")

    return _Recorded(
        name=path,
        context_dim=width,
        max_length=length,
        tokenizer=None,
        pad_id=0,
        forward=forward,
        params=None,
        lengths=(length,),
        tokens=tokens | {"": given.null},
    )
