"""What Stable Diffusion takes on an accelerator, from shapes alone: python -m scripts.sd_costs.

Prints the table of docs/stable_diffusion.md: weights, arithmetic of a guided step and of decoding,
and the memory of the values that are alive at once in the traced programs, as other platforms than
CPU run them. XLA fuses operations, so a device needs somewhat less.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from flax import nnx

from dg2_jax.interop.stable_diffusion.unet_config import parse_unet
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.clip import ClipText, ClipTextConfig
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.nn.sd_unet import SDUNet
from dg2_jax.nn.tiling import Tiled
from dg2_jax.scripts.command import command
from dg2_jax.scripts.jaxpr_cost import cost
from dg2_jax.scripts.published_unets import PUBLISHED, TOKENS

_SIZES = flags.DEFINE_list("sizes", ["512", "1024"], "Sides of pictures in pixels.")

_GB = 1e9
_CLIP_L = ClipTextConfig(
    hidden_size=768, intermediate_size=3072, projection_dim=768, num_hidden_layers=12,
    num_attention_heads=12, hidden_act="quick_gelu", vocab_size=49408, max_position_embeddings=77,
)  # fmt: skip
_CLIP_BIG_G = ClipTextConfig(
    hidden_size=1280, intermediate_size=5120, projection_dim=1280, num_hidden_layers=32,
    num_attention_heads=20, hidden_act="gelu", vocab_size=49408, max_position_embeddings=77,
)  # fmt: skip
TEXTS = {"1.5": (_CLIP_L,), "XL": (_CLIP_L, _CLIP_BIG_G)}


def shapes(make: Callable[[nnx.Rngs], nnx.Module], dtype: Any) -> tuple[nnx.GraphDef, Any, int]:
    """A network's structure, the shapes of its weights in a dtype, and their bytes."""
    graphdef, state = nnx.split(with_compute_dtype(abstract(make), dtype))
    held = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), state)
    return graphdef, held, sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(held))


def text_bytes(config: ClipTextConfig, pools: bool) -> int:
    """Of a text encoder in half precision."""
    return shapes(lambda rngs: ClipText(config, projection=pools, rngs=rngs), jnp.float16)[2]


def rows(name: str) -> Iterator[str]:
    """The rows of a model."""
    config = parse_unet(PUBLISHED[name])
    unet, params, size = shapes(lambda rngs: SDUNet(config, rngs=rngs), jnp.bfloat16)
    texts = sum(text_bytes(text, pools=i > 0) for i, text in enumerate(TEXTS[name]))
    vae, vae_params, vae_size = shapes(
        lambda rngs: AutoencoderKL(AutoencoderConfig(), rngs=rngs), jnp.float32
    )
    weights = size + texts + vae_size
    for side in map(int, _SIZES.value):
        step = cost(guided(unet, config), params, *inputs(config, side))
        latents = jax.ShapeDtypeStruct((1, side // 8, side // 8, 4), jnp.float32)
        whole = cost(lambda p, z: nnx.merge(vae, p).decode(z), vae_params, latents)
        tiled = cost(lambda p, z: Tiled(nnx.merge(vae, p)).decode(z), vae_params, latents)
        most = weights + max(step.peak, tiled.peak)
        cells = [
            f"{name}, {side} x {side}", f"{size / _GB:.1f}", f"{(texts + vae_size) / _GB:.1f}",
            f"{step.flop / 1e12:.2f}", f"{step.peak / _GB:.1f}", f"{whole.flop / 1e12:.2f}",
            f"{whole.peak / _GB:.1f}", f"{tiled.peak / _GB:.1f}", f"{most / _GB:.1f}",
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def guided(graphdef: nnx.GraphDef, config: Any) -> Callable[..., Any]:
    """A guided step of one picture, as a function of weights, x and what `inputs` gives."""

    def step(params: Any, x: Any, context: Any, pooled: Any, time_ids: Any) -> Any:
        unet = nnx.merge(graphdef, params)
        conditioning = unet.project_context(context, pooled=pooled, time_ids=time_ids)
        output = unet(jnp.concatenate([x, x]), jnp.full(2, 500), conditioning)
        given, free = jnp.split(output.astype(jnp.float32), 2)
        return free + 5.0 * (given - free)

    return step


def inputs(config: Any, side: int) -> tuple[Any, ...]:
    """The shapes of a picture's latents, two texts, and for XL their pooled vectors and sizes."""
    x = jax.ShapeDtypeStruct((1, side // 8, side // 8, 4), jnp.float32)
    context = jax.ShapeDtypeStruct((2, TOKENS, config.cross_attention_dim), jnp.float32)
    if not config.addition_time_embed_dim:
        return x, context, None, None
    width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    pooled = jax.ShapeDtypeStruct((2, width), jnp.float32)
    return x, context, pooled, jax.ShapeDtypeStruct((2, 6), jnp.int32)


def main() -> None:
    """Prints the table; gigabytes of 10⁹ bytes."""
    print(
        "| model, pixels | UNet, GB | texts and VAE, GB | guided step, TFLOP | its values, GB "
        "| decoding, TFLOP | its values, GB | in tiles, GB | in all, in tiles, GB |"
    )
    print("|---|" + "--:|" * 8)
    for name in TEXTS:
        print(*rows(name), sep="\n", flush=True)


if __name__ == "__main__":
    command(main)
