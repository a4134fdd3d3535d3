"""PyTorch files of Real-ESRGAN and ESRGAN, of every age and trainer -> the official names."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dg2_jax.interop.torch_checkpoint import read_torch
from dg2_jax.interop.weights import unwrapped

# Where the weights are, the best first: the moving average, then the raw ones.
_HOLDERS = ("params_ema", "params", "state_dict", "model_state_dict", "generator", "model")
_RENAMED = [
    # ESRGAN since 2019
    (r"^RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"^trunk_conv\.", "conv_body."),
    (r"^upconv(\d)\.", r"conv_up\1."),
    (r"^HRconv\.", "conv_hr."),
    # ESRGAN of 2018: the place in a Sequential
    (r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
    (r"^model\.1\.sub\.\d+\.(weight|bias)$", r"conv_body.\1"),
    (r"^model\.0\.(weight|bias)$", r"conv_first.\1"),
    (r"^model\.3\.(weight|bias)$", r"conv_up1.\1"),
    (r"^model\.6\.(weight|bias)$", r"conv_up2.\1"),
    (r"^model\.8\.(weight|bias)$", r"conv_hr.\1"),
    (r"^model\.10\.(weight|bias)$", r"conv_last.\1"),
]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def read(path: Path) -> dict[str, np.ndarray]:
    """The weights of a `.pth` file under the names and shapes of the official colour networks.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds no weights.
    """
    content = read_torch(path)
    held = [content[k] for k in _HOLDERS if isinstance(content, Mapping) and k in content]
    states = [state for state in (*held, content) if _is_state(state)]
    if not states:
        raise ValueError(
            f"{path}: expected a state dictionary, or one under {', '.join(_HOLDERS[:-1])} or "
            f"{_HOLDERS[-1]}"
        )
    state = {_official(unwrapped(name)): np.asarray(value) for name, value in states[0].items()}
    return _in_colour(state)


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and hasattr(v, "shape") for k, v in value.items())
    )


def _official(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _in_colour(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A network of one channel as one of three: it sees the luma and gives each channel the same.

    What it computes of a grey picture is what the network of one channel computes.
    """
    rrdbnet = "conv_first.weight" in state
    bodies = [name for name in state if re.fullmatch(r"body\.\d+\.weight", name)]
    first = "conv_first" if rrdbnet else "body.0"
    last = "conv_last" if rrdbnet else max(bodies, key=_index, default="").removesuffix(".weight")
    if any(state.get(f"{name}.weight", np.empty(0)).ndim != 4 for name in (first, last)):
        return state
    kernel = state[f"{first}.weight"]
    outputs = len(state[f"{last}.weight"])
    cells = kernel.shape[1] if rrdbnet else 1  # pixels that are folded into channels
    if cells not in (1, 4, 16) or (rrdbnet and outputs != 1) or kernel.shape[1] != cells:
        return state
    seen = np.einsum("c,okhw->ockhw", _LUMA, kernel.astype(np.float32))
    shape = (len(kernel), 3 * cells, *kernel.shape[2:])
    grey = {f"{first}.weight": seen.reshape(shape)}
    for leaf in ("weight", "bias"):
        if f"{last}.{leaf}" in state:
            grey[f"{last}.{leaf}"] = np.concatenate([state[f"{last}.{leaf}"]] * 3)
    return state | grey


def _index(name: str) -> int:
    return int(name.split(".")[1])
