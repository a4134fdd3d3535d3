"""Where a run's numbers go: metrics.jsonl always, Weights & Biases if it can be had."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

_LOG = logging.getLogger(__name__)


class MetricsLog:
    """Appends lines to `<workdir>/metrics.jsonl` and mirrors them to Weights & Biases.

    The file is the record: one JSON object a line with `step` and numbers, in the order of the
    steps. Whatever wandb raises is reported once and switches it off; it never stops a run.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        after_step: int = 0,
        wandb_mode: str = "disabled",
        project: str = "dg2_jax",
        config: dict[str, Any] | None = None,
    ):
        """Opens the log.

        Args:
            workdir: an existing folder.
            after_step: the step that is resumed from; lines beyond it, of steps that were lost and
                come again, are dropped.
            wandb_mode: "offline", "online" or "disabled".
            project: wandb's project.
            config: shown by wandb.
        """
        self.path = workdir / "metrics.jsonl"
        kept = [line for line in _lines(self.path) if line["step"] <= after_step]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        partial.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._wandb: Any = None
        if wandb_mode != "disabled":
            self._guard(self._start_wandb, workdir, wandb_mode, project, config)

    def _start_wandb(self, workdir: Path, mode: str, project: str, config: Any) -> None:
        import wandb  # imported late: it takes seconds, and most callers do without

        self._wandb = wandb.init(
            dir=str(workdir),
            mode=mode,  # type: ignore[arg-type]
            project=project,
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line; numbers keep six significant digits or more."""
        line = {"step": step} | {k: float(v) for k, v in metrics.items()}
        self._file.write(json.dumps(line) + "\n")
        if self._wandb is not None:
            self._guard(self._wandb.log, metrics, step=step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Writes a picture, uint8 (h, w, 3), to `<workdir>/samples/<name>_<step>.png`."""
        from PIL import Image

        folder = self.path.parent / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{name}_{step:07d}.png")

    def close(self) -> None:
        """Closes the file and ends the wandb run."""
        self._file.close()
        if self._wandb is not None:
            self._guard(self._wandb.finish)

    def _guard(self, function: Any, *args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            _LOG.warning("wandb is switched off: %s", error)
            self._wandb = None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last one cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
