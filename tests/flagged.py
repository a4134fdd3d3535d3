"""What JAX's global flags must not change, into a file; `tests/test_flags.py` sets the flags.

python -m tests.flagged FOLDER OUT: pictures and latents of every task and every draw of a model
folder, by name, as .npz.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax import randomness
from dg2_jax.diffusion import sampling
from dg2_jax.nn.scaling import Scaling
from dg2_jax.nn.unet import UNet, UNetConfig
from dg2_jax.pipeline import Pipeline
from dg2_jax.training import optimizer, state, step
from dg2_jax.training.config import OptimConfig, RunConfig
from dg2_jax.training.process import DiffusionConfig

SIDE = 32  # of the small model's pictures


def pictures(pipe):
    """Latents and pixels of each way in which a call draws random numbers."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    image = (np.stack([x, y, 1 - x], -1) * 255).astype(np.uint8)
    mask = (np.hypot(x - 0.6, y - 0.4) < 0.3).astype(np.float32)
    anagram = [("a lake", "identity"), ("a volcano", "rot180")]
    calls = {
        "initial noise": {"num_images": 3, "seed": [2**32 - 1, 0, 7]},
        "noise of the steps": {"solver": "euler_ancestral"},
        "noise of an SDE": {"solver": "dpmpp_2m_sde"},
        "img2img": {"image": image, "strength": 0.6},
        "in-painting": {"image": image, "mask": mask, "solver": "ddim", "num_resamples": 2},
        "out-painting": {"image": image, "outpaint": (0, 0, 16, 0), "strength": 1.0},
        "inversion ddim": {"image": image, "inversion": "ddim"},
        "inversion ddpm": {"image": image, "inversion": "ddpm"},
        "anagram": {"anagram": anagram},
        "anagram pixel": {"anagram": anagram, "anagram_mode": "pixel"},
        "guidance": {"guidance_interval": (0.2, 0.9), "apg_eta": 0.5, "apg_momentum": -0.5},
        "reuse": {"reuse_every": 2},
    }
    for name, given in calls.items():
        prompt = "" if "anagram" in given else "a (lake:1.2) at dawn"
        result = pipe(prompt, **{"num_inference_steps": 3, "seed": 11, **given})
        yield name, result.latents
        yield f"{name}, pixels", result.images
    shown = []
    pipe("a lake", num_inference_steps=2, preview_every=1, on_preview=lambda p: shown.append(p))
    yield "previews", np.concatenate([preview.images for preview in shown])


def sampled(pipe):
    """The pure sampler's latents."""
    text, keys = pipe.encode(["a lake"], ["fog"]), sampling.image_keys(jnp.array([4]))
    return pipe.sampler(num_inference_steps=3)(pipe.model.params["ema"], text, keys)


def posterior(pipe):
    """A draw from the autoencoder's posterior, as training makes it."""
    vae = pipe.model.autoencoder.bind(pipe.model.autoencoder_params)
    pixels = jnp.linspace(-1.0, 1.0, SIDE * SIDE * 3, dtype=jnp.float32)
    return vae.encode(pixels.reshape(1, SIDE, SIDE, 3)).sample(randomness.key(3))


def trained():
    """The weights and losses of a few steps of training, dropout included."""
    config = UNetConfig(
        2, (8,), attention_levels=(True,), head_dim=8, context_dim=8, embed_dim=16, norm_groups=4,
        dropout=0.1,
    )  # fmt: skip
    run = RunConfig(num_steps=5, batch_size=8, optim=OptimConfig(warmup_steps=1))
    structure, params = state.network(lambda rngs: UNet(config, rngs=rngs), 3)
    rng = np.random.default_rng(0)
    batch = {
        "mean": rng.normal(size=(8, 4, 4, 2)).astype(np.float16),
        "logvar": np.full((8, 4, 4, 2), -1.0, np.float16),
        "context": rng.normal(size=(8, 3, 8)).astype(np.float16),
        "mask": np.ones((8, 3), bool),
    }
    loss = step.diffusion_loss(structure, DiffusionConfig(caption_dropout=0.3), Scaling(0.5, 1.0))
    current = state.create(params, optimizer.make(run.optim, run.num_steps))
    update, losses = step.make_train_step(loss, run), []
    for _ in range(2):
        current, metrics = update(current, batch)
        losses.append(float(metrics["loss"]))
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(current.params)]
    return np.concatenate(leaves), np.array(losses, np.float32)


def main(folder, out):
    """Writes everything."""
    pipe = Pipeline.load(folder)
    weights, losses = trained()
    everything = {
        **dict(pictures(pipe)), "sampler": sampled(pipe),
        "posterior": posterior(pipe), "weights": weights, "losses": losses,
    }  # fmt: skip
    np.savez(out, allow_pickle=False, **{k: np.asarray(v) for k, v in everything.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
