"""The log of a run: metrics.jsonl, and optionally Weights & Biases and TensorBoard."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_LOG = logging.getLogger(__name__)


class Sink(Protocol):
    """A destination for numbers and pictures."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds numbers."""

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Adds a picture, uint8 (h, w, 3)."""

    def close(self) -> None:
        """Writes out what is left."""


class MetricsLog:
    """Writes numbers and pictures to `<workdir>` and to the configured services.

    The files are the record. A service that is unavailable or raises is reported once and switched
    off; it never stops a run.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        after_step: int = 0,
        wandb_mode: str = "disabled",
        project: str = "dg2_jax",
        tensorboard: bool = False,
        config: dict[str, Any] | None = None,
        enabled: bool = True,
    ):
        """Opens the log.

        Args:
            workdir: an existing folder.
            after_step: the step to resume from; later lines, of steps that will be repeated, are
                dropped.
            wandb_mode: "offline", "online" or "disabled".
            project: wandb's project.
            tensorboard: also writes `<workdir>/tensorboard/`, by tensorboardX.
            config: shown by the services.
            enabled: False for all but the first process of a run; nothing is written then.
        """
        self._files = [Files(workdir, after_step)] if enabled else []
        self._services: dict[str, Sink] = {}
        if enabled and wandb_mode != "disabled":
            self._open("wandb", lambda: Wandb(workdir, wandb_mode, project, config))
        if enabled and tensorboard:
            self._open("tensorboard", lambda: TensorBoard(workdir, after_step))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line; numbers keep six significant digits or more."""
        for files in self._files:
            files.write(step, metrics)
        self._tell(lambda sink: sink.write(step, metrics))

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Adds a picture, uint8 (h, w, 3)."""
        for files in self._files:
            files.image(step, name, pixels)
        self._tell(lambda sink: sink.image(step, name, pixels))

    def close(self) -> None:
        """Closes the file and ends the services' runs."""
        for files in self._files:
            files.close()
        self._tell(lambda sink: sink.close())

    def _open(self, name: str, make: Callable[[], Sink]) -> None:
        try:
            self._services[name] = make()
        except Exception as error:
            _LOG.warning("%s is switched off: %s", name, error)

    def _tell(self, what: Callable[[Sink], None]) -> None:
        for name, sink in list(self._services.items()):
            try:
                what(sink)
            except Exception as error:
                _LOG.warning("%s is switched off: %s", name, error)
                del self._services[name]


class Files:
    """metrics.jsonl, one JSON object per line with `step` and numbers in order, and samples/."""

    def __init__(self, workdir: Path, after_step: int):
        self._workdir, path = workdir, workdir / "metrics.jsonl"
        kept = [line for line in _lines(path) if line["step"] <= after_step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        partial.replace(path)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds a line."""
        line = {"step": step} | {k: float(v) for k, v in metrics.items()}
        self._file.write(json.dumps(line) + "\n")

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Writes `samples/<name>_<step>.png`."""
        from PIL import Image

        folder = self._workdir / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{name}_{step:07d}.png")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Wandb:
    """A run of Weights & Biases in `<workdir>/wandb`."""

    def __init__(self, workdir: Path, mode: str, project: str, config: Any):
        import wandb  # imported late: it takes seconds, and most callers do without

        self._wandb = wandb
        self._run = wandb.init(
            dir=str(workdir),
            mode=mode,  # type: ignore[arg-type]
            project=project,
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds to the run's history."""
        self._run.log(metrics, step=step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Adds a picture to the run's history."""
        self._run.log({f"samples/{name}": self._wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class TensorBoard:
    """Event files in `<workdir>/tensorboard`."""

    def __init__(self, workdir: Path, after_step: int):
        from tensorboardX import SummaryWriter  # an extra: pip install dg2_jax[tensorboard]

        folder = str(workdir / "tensorboard")
        self._writer = SummaryWriter(folder, purge_step=after_step + 1 if after_step else None)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Adds a picture."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Writes out what is left."""
        self._writer.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without a last one cut short by a kill."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
