"""Writes LoRA files in kohya's layout, which `lora_file`, A1111, ComfyUI and diffusers read.

Layers have diffusers' names (`lora_unet_down_blocks_0_…_to_q`), the metadata tell rank and α.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save_file

from dg2_jax.files import replacing
from dg2_jax.interop.stable_diffusion.lora_file import text_layer, unet_layer

Matrices = tuple[Float[np.ndarray, "_ r"], Float[np.ndarray, "r _"]]  # A and B


def write(
    path: Path,
    unet: Mapping[str, Matrices],
    alpha: float,
    texts: Sequence[Mapping[str, Matrices]] = (),
) -> None:
    """Writes A and B of layers, float32: W + (α/r)·A B.

    Args:
        path: the file.
        unet: of the UNet, by the dotted name of the layer in `nn.sd_unet`.
        alpha: α.
        texts: of each text encoder of the model, by the dotted name in `nn.clip`.
    """
    layers = {f"lora_unet_{unet_layer(name)}": matrices for name, matrices in unet.items()}
    for number, text in enumerate(texts, start=1):
        prefix = f"lora_te{number if len(texts) > 1 else ''}_"
        layers |= {f"{prefix}{text_layer(name)}": matrices for name, matrices in text.items()}
    tensors = {}
    for name, (a, b) in layers.items():
        layer = name.replace(".", "_")
        for part, matrix in (("lora_down.weight", a.T), ("lora_up.weight", b.T)):
            tensors[f"{layer}.{part}"] = np.ascontiguousarray(matrix, np.float32)
        tensors[f"{layer}.alpha"] = np.array(alpha, np.float32)
    (rank,) = {len(b) for _, b in layers.values()}
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(tensors, str(partial), metadata)
