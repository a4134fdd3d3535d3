"""Checkpoints of training runs. The only file that knows Orbax.

A checkpoint is a folder `<step>/` with the items raw, ema, opt and averages (Orbax, by flat dotted
names), config.json and data.json, and manifest.json, which holds the SHA-256 of every other file.
It is written in the background under another name and renamed last, so that a folder named by a
number is complete; the manifest detects later damage. In a gs:// folder nothing can be renamed:
there Orbax's commit comes first, and the manifest, a single object that is whole or absent, last. A
step is listed once it has a manifest.
"""

import concurrent.futures
import contextlib
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from dg2_jax import files
from dg2_jax.models.weights_file import WeightsError, compare, flatten, unflatten
from dg2_jax.training.state import TrainState

_LOG = logging.getLogger(__name__)
_PARTIAL = ".partial"


class Restored(NamedTuple):
    """The content of a checkpoint."""

    step: int
    state: TrainState
    config: dict[str, Any]
    data_position: dict[str, Any]


class CheckpointManager:
    """The checkpoints of one run: `<folder>/<step>/`.

    If a run has several processes, all of them call `save`, `wait` and `restore`; each writes and
    reads its own shards, and the first does the rest.
    """

    def __init__(self, folder: str | Path, keep: int = 3, keep_every: int = 0):
        """Opens or creates the folder.

        Args:
            folder: holds the checkpoints of one run; a path, or a gs:// address.
            keep: number of newest checkpoints to keep, at least 1.
            keep_every: checkpoints of multiples of it are kept for ever; 0 for none.

        Raises:
            ValueError: keep is below 1, or keep_every below 0.
        """
        if keep < 1 or keep_every < 0:
            raise ValueError(
                f"keep must be at least 1 and keep_every at least 0, got {keep} and {keep_every}"
            )
        self._renames = "://" not in str(folder)
        self.folder = epath.Path(Path(folder).absolute() if self._renames else folder)
        self.keep, self.keep_every = keep, keep_every
        self._primary = jax.process_index() == 0
        if self._primary:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future | None = None

    def steps(self) -> list[int]:
        """The complete checkpoints, oldest first."""
        if not self.folder.exists():
            return []
        numbered = [p for p in self.folder.iterdir() if p.name.isdecimal()]
        complete = [p for p in numbered if self._renames or (p / files.MANIFEST).exists()]
        return sorted(int(p.name) for p in complete)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, or None."""
        return max(self.steps(), default=None)

    def save(
        self, step: int, state: TrainState, config: dict[str, Any], data_position: dict[str, Any]
    ) -> None:
        """Copies the state to the host and writes it in the background; see `wait`.

        Afterwards, checkpoints beyond `keep` are deleted; one of the same step is replaced.

        Args:
            step: at least 0.
            state: the state after `step` updates; it may be donated once this has returned.
            config: JSON data.
            data_position: JSON data, from `Loader.position`.

        Raises:
            OSError: this checkpoint or the previous one could not be written (on a full disk, say);
                older ones are kept.
        """
        self.wait()
        target = self.folder / (f"{step}{_PARTIAL}" if self._renames else str(step))
        try:
            if self._primary:
                self._sweep()
                if target.exists():
                    target.rmtree()
            items = {n: ocp.args.PyTreeSave(flatten(t)) for n, t in _items(state).items()}
            self._orbax.save(target, args=ocp.args.Composite(**items))
        except Exception as error:
            raise self._failure(step, error) from error
        self._writing = self._thread.submit(self._finish, step, target, config, data_position)

    def wait(self) -> None:
        """Waits until the last checkpoint is complete.

        Raises:
            OSError: it could not be written; it is not listed, and older ones are kept.
        """
        if self._writing is None:
            return
        try:
            self._writing.result()
        finally:
            self._writing = None
        ocp.multihost.sync_global_processes("checkpoint complete")

    def _finish(
        self, step: int, target: epath.Path, config: dict[str, Any], data_position: dict[str, Any]
    ) -> None:
        """The second half of `save`, in a thread; the first process commits at the end."""
        try:
            self._orbax.wait_until_finished()
            if not self._primary:
                return
            for name, data in (("config", config), ("data", data_position)):
                (target / f"{name}.json").write_text(json.dumps(data, indent=1))
            files.write_manifest(target)
            if self._renames:
                files.sync_all(target)
                final = self.folder / str(step)
                if final.exists():
                    final.rename(self.folder / f"{step}.replaced{_PARTIAL}")
                target.rename(final)
                files.sync(self.folder)
            self._delete_old()
        except Exception as error:
            raise self._failure(step, error) from error

    def _failure(self, step: int, error: Exception) -> OSError:
        """Cleans up after a failed save and gives the error to raise."""
        with contextlib.suppress(OSError):  # Orbax may still be writing; the next save sweeps again
            if self._primary:
                self._sweep()
        return OSError(f"checkpoint {step} could not be written to {self.folder}: {error}")

    def _sweep(self) -> None:
        """Deletes the remains of saves that failed or were killed."""
        for left_over in self.folder.glob(f"*{_PARTIAL}*"):
            left_over.rmtree()

    def _delete_old(self) -> None:
        for old in self.steps()[: -self.keep]:
            if self.keep_every and old % self.keep_every == 0:
                continue
            doomed = self.folder / str(old)
            # First what makes it a checkpoint, so that a kill leaves no numbered folder half
            # deleted.
            if self._renames:
                doomed = doomed.rename(self.folder / f"{old}{_PARTIAL}")
            else:
                (doomed / files.MANIFEST).unlink()
            doomed.rmtree()

    def restore(self, like: TrainState, step: int | None = None) -> Restored:
        """Reads a checkpoint, onto the devices that `like` names.

        Args:
            like: a state, or its shapes (`jax.eval_shape`), with the structure to restore. Leaves
                with a sharding pass it on to what is restored, however that was saved.
            step: which one; None takes the newest undamaged one, and warns of each damaged one.

        Raises:
            FileNotFoundError: there is no such checkpoint, or none at all.
            WeightsError: the checkpoint (without a `step`, every one) is damaged, or has other
                names or shapes than `like`.
        """
        self.wait()
        known = self.steps()
        if step is not None and step not in known:
            raise FileNotFoundError(f"no checkpoint of step {step} in {self.folder}; has {known}")
        if not known:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        candidates = [step] if step is not None else known[::-1]
        failures: list[str] = []
        chosen = self._first_good(candidates, failures) if self._primary else 0
        if jax.process_count() > 1:  # all processes follow the first one's choice
            chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
        if chosen < 0:
            raise WeightsError(f"no good checkpoint in {self.folder}: {'; '.join(failures)}")
        return self._read(chosen, like)

    def newest_config(self) -> tuple[int, dict[str, Any]]:
        """Step and configuration of the newest checkpoint whose configuration can be read.

        Raises:
            WeightsError: there is none.
        """
        for step in reversed(self.steps()):
            with contextlib.suppress(OSError, ValueError):
                config = json.loads((self.folder / str(step) / "config.json").read_text())
                if isinstance(config, dict):
                    return step, config
        raise WeightsError(f"no good checkpoint in {self.folder}: none has its config.json")

    def _first_good(self, candidates: list[int], failures: list[str]) -> int:
        """The first undamaged one, or -1; damage to the others is added to `failures`."""
        for candidate in candidates:
            damage = files.damage(self.folder / str(candidate))
            if damage is None:
                return candidate
            failures.append(damage)
            _LOG.warning("checkpoint %d is damaged and passed over: %s", candidate, damage)
        return -1

    def _read(self, step: int, like: TrainState) -> Restored:
        path, handler = self.folder / str(step), ocp.PyTreeCheckpointHandler()
        items = {}
        for name, tree in _items(like).items():
            if not (path / name).exists():
                raise WeightsError(f"{path} does not fit the run: it has no item {name}")
            saved = handler.metadata(path / name).tree
            compare(f"{path / name}", {k: tuple(v.shape) for k, v in saved.items()}, tree)
            shapes = jax.tree.map(_abstract, flatten(tree))
            onto = ocp.checkpoint_utils.construct_restore_args(shapes)
            flat = handler.restore(path / name, args=ocp.args.PyTreeRestore(shapes, onto))
            items[name] = unflatten(flat, tree)
        config, data = (json.loads((path / f"{n}.json").read_text()) for n in ("config", "data"))
        count = jnp.asarray(step, jnp.int32)
        sharding = getattr(like.step, "sharding", None)
        if sharding is not None:
            count = jax.make_array_from_callback((), sharding, lambda _: np.int32(step))
        state = TrainState(
            count, items["raw"], items["ema"], items["opt"], items.get("averages", ())
        )
        return Restored(step, state, config, data)


def _items(state: TrainState) -> dict[str, Any]:
    items = {"raw": state.params, "ema": state.ema, "opt": state.opt_state}
    return items | ({"averages": state.averages} if state.averages else {})


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
