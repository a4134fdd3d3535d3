"""The compiled training step of the autoencoder and the denoiser, and their losses.

The randomness of a step is a function of (seed, step) alone, so a resumed run repeats it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.data.loader import Batch
from dg2_jax.diffusion import losses
from dg2_jax.models.interface import DenoiserNetwork
from dg2_jax.models.model import Network, Params
from dg2_jax.nn.scaling import Scaling
from dg2_jax.pictures import images
from dg2_jax.training import ema, optimizer, sharding
from dg2_jax.training.config import RunConfig
from dg2_jax.training.process import DiffusionConfig
from dg2_jax.training.sharding import Layout
from dg2_jax.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]
LossFn = Callable[[Params, Batch, PRNGKeyArray], tuple[Float[Array, ""], Metrics]]
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@dataclass(frozen=True)
class DrawnLoss:
    """A loss in two parts, so that a batch can be divided after all random numbers are drawn.

    It is a `LossFn` itself. Drawing per part would change the noise, and stratify timesteps only
    within each part.

    Attributes:
        draw: (batch, key) to a batch of arrays whose first axis is the examples.
        of: (params, drawn batch or a part of it, key) to the loss and further metrics; the key is
            only for dropout.
    """

    draw: Callable[[Batch, PRNGKeyArray], Batch]
    of: LossFn

    def __call__(
        self, params: Params, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of a whole batch."""
        return self.of(params, self.draw(batch, key), key)


def make_train_step(
    loss_fn: LossFn,
    config: RunConfig,
    layout: Layout | None = None,
    transform: optax.GradientTransformation | None = None,
) -> StepFn:
    """One update: loss, gradient, clipping, AdamW, averages; compiled, and the state is donated.

    Args:
        loss_fn: (params, batch, key) to the loss and further metrics, all scalars and means over
            the batch. With `devices.accumulation_steps`, a `DrawnLoss` gives the gradient of the
            whole batch up to rounding (except for dropout, which is drawn per part); any other
            loss gets a different key for each part.
        config: optimiser, averages, seed, devices and length of the run.
        layout: of the state; by default the one of `config.devices`.
        transform: the optimiser; by default the one of `config.optim`.

    Returns:
        (state, batch) to (state, metrics): `loss`, `grad_norm` (before clipping),
        `learning_rate`, and those of `loss_fn`.
    """
    rate = optimizer.learning_rate(config.optim, config.num_steps)
    transform = transform or optimizer.make(config.optim, config.num_steps)
    decay = ema.make_decay(config.ema)
    further = [ema.power_decay(sigma) for sigma in config.ema.posthoc]
    layout = layout or sharding.make_layout(config.devices, config.batch_size, config.tensor_rules)
    gradient = _make_gradient(loss_fn, config.devices.accumulation_steps)

    @randomness.steady
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(randomness.key(config.seed), state.step)
        (loss, metrics), grads = gradient(state.params, batch, key)
        updates, opt_state = transform.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        count = state.step + 1
        metrics = {
            **metrics,
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": jnp.asarray(rate(state.step), jnp.float32),
        }
        average = ema.update(state.ema, params, decay(count))
        averages = tuple(
            ema.update(old, params, beta(count))
            for old, beta in zip(state.averages, further, strict=True)
        )
        state = TrainState(count, params, average, opt_state, averages)
        return layout.constrain(state), metrics

    return jax.jit(step, donate_argnums=0)


def _make_gradient(loss_fn: LossFn, parts: int) -> Callable[..., Any]:
    """(params, batch, key) to ((loss, metrics), gradient), from `parts` parts one after another."""
    if parts == 1:
        return jax.value_and_grad(loss_fn, has_aux=True)
    if isinstance(loss_fn, DrawnLoss):
        draw, of = loss_fn.draw, loss_fn.of
    else:
        draw, of = (lambda batch, key: batch), loss_fn
    of_part = jax.value_and_grad(of, has_aux=True)

    def divide(array: Array) -> Array:
        # Every parts-th example, so that a batch on several devices stays where it is.
        return jnp.swapaxes(jnp.reshape(array, (-1, parts, *array.shape[1:])), 0, 1)

    def gradient(params: Params, batch: Batch, key: PRNGKeyArray) -> Any:
        divided = jax.tree.map(divide, dict(draw(batch, key)))

        def add(total: Any, one: tuple[Array, Batch]) -> tuple[Any, None]:
            index, part = one
            value = of_part(params, part, jax.random.fold_in(key, index))
            return jax.tree.map(lambda a, b: a + b / parts, total, value), None

        first = jax.tree.map(lambda a: a[0], divided)
        shapes = jax.eval_shape(of_part, params, first, key)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return jax.lax.scan(add, zeros, (jnp.arange(parts), divided))[0]

    return gradient


def autoencoder_loss(autoencoder: Network, loss: Callable, **options: Any) -> LossFn:
    """The loss of an autoencoder on batches {"image": uint8 (b, h, w, 3)}.

    Args:
        autoencoder: the structure of an `AutoencoderKL`.
        loss: `dg2_jax.training.autoencoder.autoencoder_loss` or one like it.
        options: passed on to `loss`.
    """

    def loss_fn(params: Params, batch: Batch, key: PRNGKeyArray):
        pixels = images.from_uint8(batch["image"])
        return loss(autoencoder.bind(params), pixels, key, **options)

    return loss_fn


@runtime_checkable
class Denoiser(Protocol):
    """The structure of a `DenoiserNetwork`: a `models.model.Network`, or one with more in it."""

    def bind(self, params: Params) -> Any:
        """The network with its parameters."""


def diffusion_loss(network: Denoiser, config: DiffusionConfig, scaling: Scaling) -> DrawnLoss:
    """The loss of a denoiser on encoded batches.

    A batch holds `mean` and `logvar` (b, h, w, c), the posterior of the unscaled latents, and
    `context` (b, l, d) and `mask` (b, l) of one caption per image, for Stable Diffusion XL also
    `pooled` (b, e) and `time_ids` (b, 6), and `ids` (b, l, t) where text encoders are trained. Each
    step draws from the posterior, stratifies timesteps, and replaces a share of the captions by the
    learnt null context. For a denoiser without one, the loader drops captions
    (`data.latents.caption_dropout`).

    Args:
        network: the structure of a `DenoiserNetwork`.
        config: process and loss.
        scaling: of the latents.
    """
    alpha_bar = _alpha_bar(config)

    def draw(batch: Batch, key: PRNGKeyArray) -> Batch:
        latent_key, drop_key, time_key, noise_key, _ = jax.random.split(key, 5)
        x0 = draw_latents(batch, latent_key, scaling)
        noise = randomness.normal(noise_key, x0.shape)
        if config.assign_noise:
            noise = losses.assign_noise(x0, noise)
        return {
            **_given(batch),
            "x0": x0,
            "noise": noise,
            "t": losses.stratified_timesteps(time_key, len(x0), config.num_train_timesteps),
            "dropped": randomness.bernoulli(drop_key, config.caption_dropout, x0.shape[:1]),
            "context": jnp.asarray(batch["context"]),
            "mask": jnp.asarray(batch["mask"]),
        }

    def of(params: Params, drawn: Batch, key: PRNGKeyArray):
        model = network.bind(params)
        dropout_key = jax.random.split(key, 5)[4]
        text = with_null(model, drawn["context"], drawn["mask"], drawn["dropped"])
        conditioning = model.project_context(*text, **_given(drawn))
        per_sample = losses.denoising_loss(
            lambda x, t: model(x, t, conditioning, dropout_key=dropout_key).astype(jnp.float32),
            drawn["x0"],
            drawn["noise"],
            drawn["t"],
            alpha_bar,
            prediction_type=config.prediction_type,
            min_snr_gamma=config.min_snr_gamma,
        )
        return jnp.mean(per_sample), {}

    return DrawnLoss(draw, of)


def draw_latents(batch: Batch, key: PRNGKeyArray, scaling: Scaling) -> Float[Array, "b h w c"]:
    """Scaled latents, drawn from an encoded batch's posterior."""
    mean = batch["mean"].astype(jnp.float32)
    spread = jnp.exp(0.5 * batch["logvar"].astype(jnp.float32))
    return scaling.scale(mean + spread * randomness.normal(key, mean.shape))


def _given(batch: Batch) -> Batch:
    """What else of a batch `DenoiserNetwork.project_context` takes."""
    names = ("pooled", "time_ids", "ids")
    more = {name: jnp.asarray(batch[name]) for name in names if name in batch}
    return {k: v.astype(jnp.float32) if k == "pooled" else v for k, v in more.items()}


def with_null(
    model: DenoiserNetwork,
    context: Float[Array | np.ndarray, "b l d"],
    mask: Array | np.ndarray,
    dropped: Array,
) -> tuple[Float[Array, "b l d"], Array]:
    """The context in float32, with the captions marked in `dropped` (b,) replaced by the null.

    A network without a learnt null keeps all captions.
    """
    tokens = jnp.asarray(context, jnp.float32)
    learnt = model.null_context(*context.shape[:2])
    if learnt is None:
        return tokens, jnp.asarray(mask)
    null, null_mask = learnt
    tokens = jnp.where(dropped[:, None, None], null, tokens)
    return tokens, jnp.where(dropped[:, None], null_mask, mask)


def make_validation(
    network: Denoiser, config: DiffusionConfig, scaling: Scaling
) -> Callable[[Params, Sequence[Batch]], dict[str, float]]:
    """The loss over a fixed grid of (t, noise), so that steps and runs can be compared.

    Image i is noised to t_i = ⌊(i·φ mod 1)·T⌋ (the golden-ratio sequence, which covers [0, T)
    evenly within each batch and overall) with noise of a fixed seed; latents are posterior means,
    and no caption is dropped.

    Returns:
        (params, batches) to `val_loss`, weighted as in training, and `val_mse`, unweighted.
    """
    alpha_bar = _alpha_bar(config)

    @jax.jit
    def total(params: Params, batch: Batch, t: Array, key: PRNGKeyArray):
        model = network.bind(params)
        x0 = scaling.scale(batch["mean"].astype(jnp.float32))
        context = batch["context"].astype(jnp.float32)
        conditioning = model.project_context(context, batch["mask"], **_given(batch))
        squared_error = losses.denoising_loss(
            lambda x, t: model(x, t, conditioning).astype(jnp.float32),
            x0,
            randomness.normal(key, x0.shape),
            t,
            alpha_bar,
            prediction_type=config.prediction_type,
            min_snr_gamma=None,
        )
        snr = alpha_bar[t] / (1.0 - alpha_bar[t])
        weight = losses.min_snr_weight(snr, config.min_snr_gamma, config.prediction_type)
        return jnp.sum(weight * squared_error), jnp.sum(squared_error)

    def validate(params: Params, batches: Sequence[Batch]) -> dict[str, float]:
        sums, count = [0.0, 0.0], 0
        for batch in batches:
            n = len(batch["mean"])
            place = (jnp.arange(count, count + n, dtype=jnp.float32) * 0.6180339887) % 1.0
            t = (place * config.num_train_timesteps).astype(jnp.int32)
            errors = total(params, batch, t, jax.random.fold_in(randomness.key(0), count))
            sums = [a + float(b) for a, b in zip(sums, errors, strict=True)]
            count += n
        return {"val_loss": sums[0] / count, "val_mse": sums[1] / count}

    return validate


def _alpha_bar(config: DiffusionConfig) -> Float[Array, " T"]:
    schedule = config.noise_schedule()
    return jnp.asarray(schedule.alpha_bar, jnp.float32)
