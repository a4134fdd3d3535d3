"""The cases of scripts/benchmark.py: work of this project, and the same work in PyTorch."""

import functools
import gc
import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dg2_jax import compile_cache
from dg2_jax import config as config_lib
from dg2_jax.diffusion import denoiser, guidance
from dg2_jax.generation import program
from dg2_jax.interop.diffusiongen2 import parameter_name
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.dg2_unet import DG2UNet, DG2UNetConfig
from dg2_jax.nn.modules import split
from dg2_jax.nn.scaling import Scaling
from dg2_jax.pictures.upscaling import upscale
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts import hlo
from dg2_jax.training import optimizer, runs, starting, step
from dg2_jax.training.state import create

PROMPT = "a volcano at sunset"
TRAIN_BATCH = {"toy": 4, "base": 2}
_TOLERANCE = 1e-3  # of the largest value; both sides are float32


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        name: of the work.
        implementation: the library that does it.
        run: does the work and waits for the result.
        gflop: the arithmetic in it, if known.
    """

    name: str
    implementation: str
    run: Callable[[], Any]
    gflop: float | None = None


def matmul_peak() -> float:
    """GFLOP/s of float32 matrix products of side 2048, the best of ten."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(2048, 2048)), jnp.float32)
    product = jax.jit(jnp.matmul)
    best = min(seconds(lambda: jax.block_until_ready(product(a, a))) for _ in range(10))
    return 2e-9 * 2048**3 / best


def seconds(function: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cases(model: str, against: list[str], text: str) -> Iterator[Case]:
    """The cases of a model whose name holds `text`; outputs are compared on the way."""
    every = _demo(against) if model == "demo" else _dg2(model, against, text)
    return (case for case in every if text in case.name)


def agree(what: str, actual: Any, expected: Any) -> None:
    """Raises AssertionError where two results differ by more than rounding."""
    a, b = np.asarray(actual), np.asarray(expected)
    error = float(np.abs(a - b).max() / np.abs(b).max())
    if not error < _TOLERANCE:
        raise AssertionError(f"{what}: results differ by {error:.1e} of the largest value")


def _demo(against: list[str]) -> Iterator[Case]:
    pipe = Pipeline.load("demo")
    picture = pipe(PROMPT)
    pixels = picture.images
    z = jnp.asarray(picture.latents)
    vae = pipe.model.autoencoder.bind(pipe.model.autoencoder_params)
    graphdef, state = nnx.split(vae)
    decode = jax.jit(lambda s, z: nnx.merge(graphdef, s).decode(z))
    encode = jax.jit(lambda s, x: nnx.merge(graphdef, s).encode(x).mean)
    x = jnp.asarray(pixels, jnp.float32) / 127.5 - 1.0

    def ours(name: str, run: Callable[[], Any]) -> Case:
        return Case(name, "dg2_jax", run)

    yield ours("image, 20 steps", lambda: pipe(PROMPT, solver="ddim"))
    if "diffusers" in against:
        yield Case("image, 20 steps", "diffusers", _diffusers_image())
    yield ours("1 step", lambda: pipe(PROMPT, num_inference_steps=1))
    yield ours("20 steps, unguided", lambda: pipe(PROMPT, guidance_scale=1.0))
    yield ours("4 images, 20 steps", lambda: pipe(PROMPT, num_images=4))
    yield ours("16 images, 20 steps", lambda: pipe(PROMPT, num_images=16))
    yield _demo_train_step()
    yield ours("VAE decode", lambda: decode(state, z).block_until_ready())
    yield ours("VAE encode", lambda: encode(state, x).block_until_ready())
    yield ours("text encoding, 16 prompts", lambda: pipe.text_encoder.encode([PROMPT] * 16))
    yield ours("upscaling 128 to 512, animevideov3", lambda: upscale(pixels, "animevideov3"))


def _demo_train_step() -> Case:
    """The training step of configs/demo.py, batch 32, on random latents."""
    values = importlib.import_module("dg2_jax.configs.demo").get_config().to_dict()
    config = config_lib.from_mapping(runs.DenoiserRunConfig, values)
    network, params = starting.build_denoiser(config)
    rng = np.random.default_rng(0)
    latents, batch = (16, 16, 8), config.batch_size
    data = {
        "mean": rng.normal(size=(batch, *latents)).astype(np.float32),
        "logvar": np.full((batch, *latents), -5.0, np.float32),
        "context": rng.normal(size=(batch, 24, 384)).astype(np.float32),
        "mask": np.ones((batch, 24), bool),
    }
    current = [create(params, optimizer.make(config.optim, config.num_steps))]
    update: Any = step.make_train_step(
        step.diffusion_loss(network, config.diffusion, Scaling()), config
    )
    update = update.lower(current[0], data).compile()

    def run() -> None:
        current[0], metrics = update(current[0], data)
        jax.block_until_ready(metrics)

    return Case(f"train step, batch {batch}", "dg2_jax", run, _gflop(update))


def _gflop(compiled: Any) -> float:
    return hlo.read(compiled.as_text())[1]


def _diffusers_image() -> Callable[[], Any]:
    """Diffusers' UNet in the embedded model's shape, 20 guided DDIM steps and its VAE's decoder.

    Its text is given as embeddings. Weights are random and the blocks differ in detail, so outputs
    are not compared.
    """
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    widths = (64, 128, 192)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=8, out_channels=8, block_out_channels=widths,
        layers_per_block=1, cross_attention_dim=384, attention_head_dim=(2, 4, 6),
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    vae = AutoencoderKL(
        latent_channels=8, block_out_channels=(32, 64, 64, 128), norm_num_groups=16,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    text = torch.randn(2, 24, 384)

    def run() -> Any:
        scheduler.set_timesteps(20)
        x = torch.randn(1, 8, 16, 16)
        with torch.inference_mode():
            for t in scheduler.timesteps:
                u, c = unet(torch.cat([x, x]), t, text).sample.chunk(2)
                x = scheduler.step(u + 5.0 * (c - u), t, x).prev_sample
            return vae.decode(x).sample

    return run


def dg2_config(model: str) -> DG2UNetConfig:
    """The denoiser of configs/dg2_toy.py or configs/dg2_base.py, without dropout."""
    values = importlib.import_module(f"configs.dg2_{model}").get_config().denoiser.to_dict()
    return DG2UNetConfig(**values | {"legacy_time_table": True, "dropout": 0.0})


def _inputs(config: DG2UNetConfig, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, 32, 32, config.in_channels)).astype(np.float32)
    text = rng.normal(size=(batch, 77, config.n_embd)).astype(np.float32)
    return x, rng.integers(0, 1000, batch).astype(np.int32), text


def _dg2(model: str, against: list[str], text: str) -> Iterator[Case]:
    config = dg2_config(model)
    module = abstract(lambda rngs: DG2UNet(config, rngs=rngs))
    twin = None
    if {"torch", "torch.compile"} & set(against):
        import torch

        from dg2_jax.scripts.torch_unet import TorchUNet  # PyTorch is not among the requirements

        torch.manual_seed(0)
        twin = TorchUNet(config).eval()
        tensors = {f"unet.{k}": v.numpy() for k, v in twin.state_dict().items()}
        tensors["unet.time_embd_layer.te"] = tensors["unet.time_embd_layer.te"].reshape(-1)
        load_params(module, tensors, parameter_name)
    else:
        module = DG2UNet(config, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(module)
    if text in "CFG step":
        yield from _cfg_step(config, graphdef, params, twin, against)
    gc.collect()
    name = f"train step, batch {TRAIN_BATCH[model]}"
    if text in name:
        yield from _train_step(name, config, graphdef, params, twin, TRAIN_BATCH[model])


def _cfg_step(
    config: DG2UNetConfig, graphdef: Any, params: Any, twin: Any, against: list[str]
) -> Iterator[Case]:
    """One guided evaluation of one image: a batch of two, text and null text."""
    x, _, text = _inputs(config, 2)
    x, t = np.concatenate([x[:1], x[:1]]), np.full(2, 500, np.int32)
    project = jax.jit(lambda p, c: nnx.merge(graphdef, p).project_context(c))
    conditioning = project(params, text)

    def step(params: Any, x: Any, t: Any, conditioning: Any) -> Any:
        c, u = jnp.split(nnx.merge(graphdef, params)(x, t, conditioning), 2)
        return u + 5.0 * (c - u)

    compiled = jax.jit(step).lower(params, x, t, conditioning).compile()
    output = np.asarray(compiled(params, x, t, conditioning))
    yield Case(
        "CFG step", "dg2_jax",
        lambda: jax.block_until_ready(compiled(params, x, t, conditioning)), _gflop(compiled),
    )  # fmt: skip
    if twin is None:
        return
    import torch

    args = torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(t).long(), torch.tensor(text)

    def torch_step(network: Any, layout: Any) -> Any:
        with torch.inference_mode():
            x = args[0].contiguous(memory_format=layout)
            c, u = network(x, *args[1:]).chunk(2)
            return u + 5.0 * (c - u)

    plain, last = torch.contiguous_format, torch.channels_last
    variants = {}
    if "torch" in against:
        import copy

        variants["torch"] = twin, plain
        variants["torch, channels last"] = copy.deepcopy(twin).to(memory_format=last), last
    if "torch.compile" in against:
        variants["torch.compile"] = torch.compile(twin), plain
    for name, (network, layout) in variants.items():
        agree(f"CFG step, {name}", output, torch_step(network, layout).permute(0, 2, 3, 1))
        yield Case("CFG step", name, functools.partial(torch_step, network, layout))


def _train_step(
    name: str, config: DG2UNetConfig, graphdef: Any, params: Any, twin: Any, batch: int
) -> Iterator[Case]:
    """Mean squared error, gradient, clipping and AdamW, without dropout."""
    x, t, text = _inputs(config, batch)
    target = np.roll(x, 1, axis=1)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4, weight_decay=0.01))

    def loss_fn(params: Any) -> Any:
        network = nnx.merge(graphdef, params)
        return jnp.mean(jnp.square(network(x, t, network.project_context(text)) - target))

    def step(params: Any, state: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss, optax.tree.norm(grads)

    params = jax.tree.map(jnp.copy, params)
    state = optimizer.init(params)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile()
    current = list(compiled(params, state))
    first = [float(a) for a in current[2:]]

    def run() -> None:
        current[:] = compiled(*current[:2])
        jax.block_until_ready(current[2])

    yield Case(name, "dg2_jax", run, _gflop(compiled))
    if twin is None:
        return
    import torch

    twin = twin.train()
    adam = torch.optim.AdamW(twin.parameters(), lr=1e-4, weight_decay=0.01)
    args = torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(t).long(), torch.tensor(text)
    torch_target = torch.tensor(target.transpose(0, 3, 1, 2))

    def torch_run() -> tuple[float, float]:
        adam.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(twin(*args), torch_target)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        adam.step()
        return float(loss.detach()), float(norm)

    agree(f"{name}: loss and gradient norm", first, torch_run())
    yield Case(name, "torch", torch_run)


def sampling_memory(model: str, dtype: str | None = None) -> tuple[int, int]:
    """MiB of the weights, and the increase of this process's peak memory in four guided steps.

    With a dtype, the weights are in the form of `dg2_jax.models.quantization`.
    """
    compile_cache.enable()
    jax.jit(jnp.sin)(0.0).block_until_ready()  # the runtime itself is not counted
    before = _peak_mib()
    config = dg2_config(model)
    structure, shapes = split(abstract(lambda rngs: DG2UNet(config, rngs=rngs)))
    options = {}
    if dtype:
        # Not counted in the measured memory if it is unused.
        from dg2_jax.models.quantization import QuantizedNetwork, quantize

        structure, options = QuantizedNetwork(structure.structure), program.SPARING

    def kept(path: Any, leaf: Any) -> Any:
        value = jnp.full(leaf.shape, 1e-3, leaf.dtype)
        return quantize({path[-1].key: value}, dtype)[path[-1].key] if dtype else value

    params = jax.tree_util.tree_map_with_path(kept, shapes)
    weights = sum(a.nbytes for a in jax.tree.leaves(params)) // 2**20
    x, _, text = _inputs(config, 1)

    @functools.partial(jax.jit, compiler_options=options)
    def sample(params: Any, x: Any, text: Any) -> Any:
        network = structure.bind(params)
        pair = guidance.pair(network.project_context(text), network.project_context(0.0 * text))
        denoise = guidance.classifier_free(
            denoiser.of_network(network, "v_prediction"), jnp.full(1, 5.0)
        )

        def body(carry: Any, t: Any) -> tuple[Any, None]:
            x, memory = carry
            level = denoiser.Level(t, jnp.float32(0.8), jnp.float32(0.6))
            return denoise.apply(x, level, pair, memory), None

        return jax.lax.scan(body, (x, denoise.init(x)), jnp.arange(4))[0][0]

    jax.block_until_ready(sample(params, x, text))
    return weights, _peak_mib() - before


def _peak_mib() -> int:
    """Peak MiB of this process since its start; `getrusage` would include its parent's."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
