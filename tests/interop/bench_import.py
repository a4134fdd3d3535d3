"""Time and memory of importing a checkpoint of the published size (random weights, 2.8 GB).

    python tests/interop/bench_import.py /tmp/bench

Prints the seconds (wall and CPU) and the peak resident memory over the size of the file.
"""

import io
import json
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from torch_files import Pickler, record

SHAPES = Path(__file__).parent.parent / "golden" / "dg2_base_state_dict_shapes.json"
UNET = {
    "in_channels": 4, "channels": (128, 256, 512, 1024), "n_bn": 1, "n_groups": 16, "T": 1000,
    "t_embd": 128, "t_embd_scale": 4, "n_embd": 512, "n_heads": 16, "n_layers": 3, "dropout": 0.1,
    "enable_flash_attention": True,
}  # fmt: skip
DIFFUSION = {
    "prediction_type": "velocity", "schedule": "curved", "T": 1000, "beta1": 0.00085,
    "beta2": 0.012, "s": 0.008, "min_snr_gamma": 5.0,
}  # fmt: skip
MAX_SECONDS, MAX_MEMORY = 60.0, 2.0


def write_checkpoint(path: Path) -> None:
    """The published format: raw and averaged weights and the configuration."""
    from dg2_jax.diffusion import schedules

    schedule = schedules.make("curved")
    tables = {
        "beta": schedule.beta, "alpha": 1 - schedule.beta, "alpha_bar": schedule.alpha_bar,
        "sqrt_alpha_bar": schedule.alpha, "sqrt_one_minus_alpha_bar": schedule.sigma,
    }  # fmt: skip
    noise = np.random.default_rng(0).normal(size=1 << 26).astype(np.float32) * 0.02

    def state():
        return {
            name: tables[name].astype(np.float32)
            if name in tables
            else noise[: int(np.prod(shape))].reshape(shape)
            for name, shape in json.loads(SHAPES.read_text()).items()
        }

    module = "diffusiongen2.configs"
    config = {
        "unet": record(module, "UNetConfig", UNET),
        "diffusion": record(module, "DiffusionConfig", DIFFUSION),
    }
    buffer = io.BytesIO()
    pickler = Pickler(buffer)
    pickler.dump(
        {
            "model_state_dict": state(),
            "ema_state_dict": state(),
            "config": record(module, "ProjectConfig", config),
        }
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for key, array in enumerate(pickler.arrays):
            archive.writestr(f"archive/data/{key}", memoryview(array).cast("B"))


def main() -> None:
    """Write, import in a separate process, report."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "base.pt"
    write_checkpoint(path)
    size = path.stat().st_size
    start = time.perf_counter()
    command = [sys.executable, "-m", "scripts.import_checkpoint", str(path), str(folder / "model")]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory = used.ru_maxrss * 1024 / size
    print(
        f"{size / 1e9:.2f} GB: {seconds:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s CPU, "
        f"peak memory {memory:.2f} times the file"
    )
    sys.exit(seconds > MAX_SECONDS or memory > MAX_MEMORY)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
