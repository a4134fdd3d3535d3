"""Compares `dg2_jax.upscale` with the runner `ncnn` on the same weight files: quality and time.

    pip install ncnn
    python -m scripts.compare_ncnn --image=PHOTO

For every model it prints the PSNR between the two results, the largest difference in grey levels,
and the times. ncnn runs on the CPU in float32 (fp16, bf16 and Vulkan off). The two take turns, and
the script gives both the ratio of the fastest runs and the median ratio over all turns, since other
work on the machine disturbs single times. On two Xeon cores: PSNR 91 to 98 dB; ratios of 1.0 for
the x4plus networks and 1.3 for animevideov3, whose direct convolutions run at the peak of the cores
while ncnn's (Winograd's algorithm) need less arithmetic; beside other work, the latter grew to 1.8.

With --record=DIR it instead writes ncnn's results for a 24x24 crop, which the tests compare with
(`tests/golden/ncnn_*.npz`).
"""

import functools
import importlib
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from dg2_jax.interop import realesrgan, upscaler_files
from dg2_jax.pictures.upscaling import upscale

FLAGS = flags.FLAGS
flags.DEFINE_string("image", None, "A photograph.", required=True)
flags.DEFINE_list("models", list(upscaler_files.MODELS), "Models to compare.")
flags.DEFINE_integer("size", 128, "Side of the square cut from the image's centre.", 16)
flags.DEFINE_integer("rounds", 5, "Timed turns.", 1)
flags.DEFINE_integer("threads", 2, "Threads of ncnn.", 1)
flags.DEFINE_string("record", None, "Folder for golden files; nothing is compared then.")

_GOLDEN_SIZE = 24
_PAUSE = 0.2  # seconds for the other runner's idle threads to stop spinning


class NcnnRunner:
    """A Real-ESRGAN network run by ncnn: uint8 (h, w, 3) -> float32 (4h, 4w, 3), not clipped."""

    def __init__(self, model: str, threads: int):
        try:
            ncnn = importlib.import_module("ncnn")
        except ModuleNotFoundError:
            raise app.UsageError("this script needs ncnn: pip install ncnn") from None
        param = upscaler_files.find_weights(model)
        self._mat, self._net = ncnn.Mat, ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_vulkan_compute = False
        options.use_fp16_storage = options.use_fp16_packed = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if self._net.load_param(str(param)) or self._net.load_model(str(param.with_suffix(".bin"))):
            raise RuntimeError(f"ncnn could not load {param}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Runs the network on the whole image."""
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
        extractor = self._net.create_extractor()
        extractor.input("data", self._mat(planes))
        failed, out = extractor.extract("output")
        if failed:
            raise RuntimeError("ncnn failed to run the network")
        return np.array(out).transpose(1, 2, 0)


def _crop(path: str, size: int) -> np.ndarray:
    image = np.asarray(Image.open(path).convert("RGB"))
    top, left = ((side - size) // 2 for side in image.shape[:2])
    if min(top, left) < 0:
        raise app.UsageError(f"--image is {image.shape[:2]}, smaller than --size={size}")
    return image[top : top + size, left : left + size]


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _timed(function, *args) -> float:
    time.sleep(_PAUSE)
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def compare(model: str, image: np.ndarray) -> None:
    """Prints one model's line."""
    theirs = NcnnRunner(model, FLAGS.threads)
    ours = functools.partial(upscale, model=realesrgan.load(model), tile=FLAGS.size)
    a, b = _to_uint8(theirs(image)), ours(image)  # also the warm-up
    difference = a.astype(float) - b
    mse = np.mean(difference**2)
    psnr = np.inf if mse == 0 else 10 * np.log10(255**2 / mse)
    times = np.array([(_timed(ours, image), _timed(theirs, image)) for _ in range(FLAGS.rounds)])
    fastest = times.min(axis=0)
    print(
        f"{model}: PSNR {psnr:.1f} dB, largest difference {np.abs(difference).max():.0f}; "
        f"{fastest[0]:.3f} s, ncnn {fastest[1]:.3f} s, ratio {fastest[0] / fastest[1]:.2f} "
        f"(median of turns {np.median(times[:, 0] / times[:, 1]):.2f})",
        flush=True,
    )


def record(model: str, image: np.ndarray, folder: Path) -> None:
    """Writes a golden file: `image` uint8 and ncnn's `output` in float16, clipped to [0, 1]."""
    output = np.clip(NcnnRunner(model, FLAGS.threads)(image), 0, 1).astype(np.float16)
    path = folder / f"ncnn_{model}.npz"
    np.savez_compressed(path, image=image, output=output)
    print(path, path.stat().st_size, "bytes")


def main(argv: list[str]) -> None:
    """Compares, or records with --record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    image = _crop(FLAGS.image, _GOLDEN_SIZE if FLAGS.record else FLAGS.size)
    for model in FLAGS.models:
        if FLAGS.record:
            record(model, image, Path(FLAGS.record))
        else:
            compare(model, image)


if __name__ == "__main__":
    app.run(main)
