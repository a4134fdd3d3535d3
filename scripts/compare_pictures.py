"""Checks that a change of the code leaves the pictures as they are.

    python -m scripts.compare_pictures --record=/tmp/pictures.npz    (before the change)
    python -m scripts.compare_pictures --against=/tmp/pictures.npz   (after it)

Generates one small batch per case, over all tasks, solvers and controls, with the embedded model.
The second command prints the largest difference per case in grey levels and exits with 1 unless all
are equal. Compare on one machine only: another processor sums in another order.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import app, flags

from dg2_jax import Pipeline

_RECORD = flags.DEFINE_string("record", None, "file (.npz) that the pictures are written to")
_AGAINST = flags.DEFINE_string("against", None, "file (.npz) that the pictures are compared with")


def _source(pipe: Pipeline) -> np.ndarray:
    return pipe("a calm lake at dawn", seed=3, num_inference_steps=4).images[0]


def _mask() -> np.ndarray:
    rows, columns = np.mgrid[:128, :128]
    return np.where((rows - 70) ** 2 + (columns - 60) ** 2 < 900, 255, 0).astype(np.uint8)


def cases(source: np.ndarray, mask: np.ndarray) -> Mapping[str, dict[str, Any]]:
    """Keyword arguments of `Pipeline` by the name of the case."""
    short = {"prompt": "a volcano at sunset", "num_inference_steps": 5, "seed": 11}
    edit = {**short, "image": source}
    paint = {**edit, "mask": mask, "strength": 1.0}
    pair = [("a volcano at sunset", "identity"), ("a calm lake at sunset", "rot180")]
    turned = {"anagram": pair, "num_inference_steps": 4, "seed": 5}
    solvers = (
        *("ddim", "ddpm", "ddpm_large", "dpmpp_2m", "dpmpp_2m_sde"),
        *("unipc", "heun", "euler", "euler_ancestral"),
    )
    return {
        **{f"solver {name}": {**short, "solver": name} for name in solvers},
        "three pictures": {**short, "num_images": 3, "negative_prompt": "fog"},
        "unguided": {**short, "guidance_scale": 1.0},
        "fast weights": {"prompt": "a lake", "weights": "fast", "seed": 2},
        "raw weights": {**short, "weights": "raw"},
        "eta": {**short, "solver": "ddim", "eta": 0.7},
        "rescale": {**short, "guidance_scale": 6.0, "guidance_rescale": 0.7},
        "interval": {**short, "guidance_interval": (0.2, 0.9)},
        "adaptive projected guidance": {
            **short,
            "guidance_scale": 6.0,
            "apg_eta": 0.0,
            "apg_norm_threshold": 20.0,
            "apg_momentum": -0.5,
        },
        "autoguidance": {**short, "autoguidance_model": "demo", "autoguidance_scale": 1.5},
        "reuse": {**short, "num_inference_steps": 8, "reuse_every": 3},
        "reuse in an interval": {
            **short,
            "num_inference_steps": 8,
            "reuse_every": 2,
            "guidance_interval": (0.3, 0.9),
        },
        "spacing": {**short, "spacing": "leading"},
        "weighted words": {**short, "prompt": "a (volcano:1.4) at [sunset]"},
        "composed prompts": {**short, "prompt": "a tropical island AND a sunset:0.7"},
        "img2img": {**edit, "strength": 0.6},
        "img2img of full length": {**edit, "strength": 0.6, "strength_mode": "full"},
        "only the autoencoder": {**edit, "strength": 0.0},
        "in-painting": paint,
        "in-painting, resampled": {**paint, "solver": "ddim", "num_resamples": 2},
        "out-painting": {**edit, "outpaint": (0, 0, 64, 0), "strength": 1.0},
        "inversion ddim": {**edit, "inversion": "ddim", "source_prompt": "a calm lake at dawn"},
        "inversion ddpm": {**edit, "inversion": "ddpm", "source_prompt": "a calm lake at dawn"},
        "anagram latent": turned,
        "anagram corrected": {**turned, "anagram_mode": "corrected"},
        "anagram pixel": {**turned, "anagram_mode": "pixel"},
        "anagram in-painting": {**turned, "image": source, "mask": mask, "strength": 0.8},
        "upscaled": {**short, "upscale": 2, "upscaler": "animevideov3"},
    }


def _pictures() -> dict[str, np.ndarray]:
    pipe = Pipeline.load("demo")
    pictures = {}
    for name, arguments in cases(_source(pipe), _mask()).items():
        pictures[name] = pipe(**arguments).images
        print(f"{name}: {pictures[name].shape}", flush=True)
    shown: list[np.ndarray] = []
    pipe(
        "a volcano at sunset",
        num_inference_steps=6,
        preview_every=2,
        on_preview=lambda preview: shown.append(preview.images),
    )
    pictures["previews"] = np.concatenate(shown)
    return pictures


def main(argv: list[str]) -> None:
    """Records or compares."""
    if len(argv) > 1 or (_RECORD.value is None) == (_AGAINST.value is None):
        raise app.UsageError("one of --record and --against must be given, and nothing else")
    pictures = _pictures()
    if _RECORD.value is not None:
        np.savez_compressed(_RECORD.value, allow_pickle=False, **pictures)
        return
    different = 0
    with np.load(str(_AGAINST.value)) as recorded:
        for name in sorted(set(recorded) | set(pictures)):
            if name not in pictures or name not in recorded:
                levels = "in one of the two only"
            elif pictures[name].shape != recorded[name].shape:
                levels = f"{recorded[name].shape} against {pictures[name].shape}"
            else:
                apart = np.abs(recorded[name].astype(int) - pictures[name].astype(int))
                if not apart.max():
                    continue
                levels = f"{apart.max()} grey levels, {np.mean(apart > 0):.3%} of the values"
            different += 1
            print(f"DIFFERENT {name}: {levels}")
    print(f"{len(pictures) - different} of {len(pictures)} cases are equal")
    sys.exit(bool(different))


if __name__ == "__main__":
    app.run(main)
