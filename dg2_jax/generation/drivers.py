"""How the host runs a sampling: in one go, watched for previews and stops, or as a pure function.

A watcher sees the same pictures at the same rows and can stop the run by either transport:

- "poll": the host runs the program a few rows at a time and looks in between. It is the default,
  because a watched run is then the same program as any other. JAX does not cache programs that
  call the host, so each process would have to compile them again.
- "callback": one run of a program that calls the host, for devices where returning to the host
  every few rows costs more. The watcher then runs during a computation and must not use JAX.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dg2_jax.diffusion import sampling
from dg2_jax.diffusion.solver_table import SolverTable
from dg2_jax.generation import coder, program
from dg2_jax.generation.inputs import Inputs, Source
from dg2_jax.generation.plan import Plan
from dg2_jax.generation.program import Program, Run, Weights
from dg2_jax.generation.text import TextInputs
from dg2_jax.models.model import Network, Params
from dg2_jax.typing import Keys, Latent

TRANSPORTS = ("poll", "callback")


class Watcher(NamedTuple):
    """An observer of a run.

    Attributes:
        look: called as `look(rows_done, draw)` after each `every`-th row and after the last, where
            `draw()` gives the batch's x₀ estimates as pictures, uint8 (b, h, w, 3); True stops.
        every: rows between two looks, at least 1.
        autoencoder: what decodes the pictures; None for the linear preview.
        transport: one of TRANSPORTS.
        params: of that autoencoder.
    """

    look: Callable[[int, Callable[[], np.ndarray]], bool]
    every: int
    autoencoder: Network | None = None
    transport: str = "poll"
    params: Params | None = None

    def after(self, rows: int) -> "Watcher":
        """The same observer of a run that follows one of so many rows."""
        return self._replace(look=lambda done, draw: self.look(rows + done, draw))


def generate(
    static: Program, weights: Weights, inputs: Inputs, num_rows: int, watcher: Watcher | None = None
) -> tuple[Latent, int]:
    """All latents that the task samples, and the number of rows run (fewer if it was stopped).

    Args:
        static: the program.
        weights: of its networks.
        inputs: of the batch.
        num_rows: number of real rows in the table; 0 returns the starting latents.
        watcher: None for no observer.
    """
    inputs = jax.device_put(inputs)
    run = program.begin(static, weights, inputs)
    if num_rows == 0:
        return run.progress.state.x, 0
    if watcher is None:
        run = program.advance(static, weights, inputs, run, np.int32(num_rows))
        return run.progress.state.x, num_rows
    drive = _poll if watcher.transport == "poll" else _call_back
    return drive(static, weights, inputs, run, num_rows, watcher)


def sampler(plan: Plan, worse: Params | None) -> Callable[[Params, TextInputs, Keys], Latent]:
    """The jitted function (parameters, texts, keys) to latents of txt2img, a `lax.scan`.

    Args:
        plan: of txt2img, whose rows and guidance are constants of the function.
        worse: the parameters of autoguidance.
    """
    table = SolverTable(*(column[: plan.num_rows] for column in plan.table))

    @jax.jit
    def sample(params: Params, text: TextInputs, keys: Keys) -> Latent:
        weights, batch = Weights(params, worse), keys.shape[0]
        source, single = Source.noise(plan.latent_shape), np.ones((batch, 1), np.float32)
        inputs = plan.inputs(source, text, single, keys)
        denoise = program.guided(plan.program, weights, inputs)
        conditioning = program.conditioning(plan.program, weights, text, inputs.conditions)
        x = sampling.initial_noise(keys, plan.latent_shape, inputs.variation)
        return sampling.sample(denoise, conditioning, x, table, keys)

    return sample


def _poll(
    static: Program, weights: Weights, inputs: Inputs, run: Run, num_rows: int, watcher: Watcher
) -> tuple[Latent, int]:
    batch = len(inputs.keys)

    def draw() -> np.ndarray:
        if watcher.autoencoder is None:
            return np.asarray(run.shown)
        x0 = run.progress.x0[:batch]
        return np.asarray(coder.decode(watcher.autoencoder, watcher.params, x0))

    for rows in [*range(watcher.every, num_rows, watcher.every), num_rows]:
        run = program.advance(static, weights, inputs, run, np.int32(rows))
        if watcher.look(rows, draw):
            return run.progress.state.x, rows
    return run.progress.state.x, num_rows


class _Call:
    """A watcher during a run by callback, and the error that it raised."""

    def __init__(self, watcher: Watcher):
        self.watcher = watcher
        self.error: BaseException | None = None


_calls: dict[int, _Call] = {}
_tokens = itertools.count()


def _relay(token: jax.Array, rows_done: jax.Array, pictures: jax.Array) -> np.bool_:
    call, shown = _calls[int(token)], np.asarray(pictures)
    try:
        return np.bool_(call.watcher.look(int(rows_done), lambda: shown))
    except BaseException as error:  # raised again by `_call_back`, which XLA would bury
        call.error = error
        return np.bool_(True)


def _call_back(
    static: Program, weights: Weights, inputs: Inputs, run: Run, num_rows: int, watcher: Watcher
) -> tuple[Latent, int]:
    weights = weights._replace(shown=watcher.params)
    token = next(_tokens) % 2**31
    call = _calls[token] = _Call(watcher)
    numbers = map(np.int32, (num_rows, watcher.every, token))
    try:
        run = program.watched(static, _relay, watcher.autoencoder, weights, inputs, run, *numbers)
        rows = int(run.progress.rows_done)
    finally:
        del _calls[token]
    if call.error is not None:
        raise call.error
    return run.progress.state.x, rows
