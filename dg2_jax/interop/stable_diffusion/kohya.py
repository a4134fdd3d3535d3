"""Writes LoRA files in kohya's layout, which `lora_file`, A1111, ComfyUI and diffusers read.

Layers have diffusers' names (`lora_unet_down_blocks_0_…_to_q`), the metadata tell rank and α.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save_file

from dg2_jax.files import replacing
from dg2_jax.interop.stable_diffusion.lora_file import unet_layer

Matrices = tuple[Float[np.ndarray, "i r"], Float[np.ndarray, "r o"]]


def write(path: Path, unet: Mapping[str, Matrices], alpha: float) -> None:
    """Writes A and B of layers of the UNet, float32: W + (α/r)·A B.

    Args:
        path: the file.
        unet: by the dotted name of the layer in `nn.sd_unet`.
        alpha: α.
    """
    tensors = {}
    for name, (a, b) in unet.items():
        layer = f"lora_unet_{unet_layer(name).replace('.', '_')}"
        for part, matrix in (("lora_down.weight", a.T), ("lora_up.weight", b.T)):
            tensors[f"{layer}.{part}"] = np.ascontiguousarray(matrix, np.float32)
        tensors[f"{layer}.alpha"] = np.array(alpha, np.float32)
    (rank,) = {len(b) for _, b in unet.values()}
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(tensors, str(partial), metadata)
