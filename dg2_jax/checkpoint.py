"""Checkpoints of training runs, and weights files. The only file that knows Orbax.

A checkpoint is a folder `<step>/` with the items raw, ema and opt (Orbax, by flat dotted names),
config.json and data.json, and manifest.json, which holds the SHA-256 of every other file. It is
written beside its place and renamed as the last act, so that a folder with a number for a name is
complete; what was damaged later is found by the manifest.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import safetensors.flax
from safetensors import SafetensorError

from dg2_jax.files import sha256
from dg2_jax.training.state import TrainState

_LOG = logging.getLogger(__name__)
_PARTIAL = ".partial"


class CheckpointError(ValueError):
    """A checkpoint or weights file that cannot be used; the message names the file and why."""


class Restored(NamedTuple):
    """What a checkpoint held."""

    step: int
    state: TrainState
    config: dict[str, Any]
    data_position: dict[str, Any]


class CheckpointManager:
    """The checkpoints of one run: `<folder>/<step>/`."""

    def __init__(self, folder: str | Path, keep: int = 3, save_interval: int = 1):
        """Opens or creates the folder.

        Args:
            folder: holds the checkpoints of one run.
            keep: the newest so many are kept, at least 1.
            save_interval: `should_save` is true at its multiples, at least 1.

        Raises:
            ValueError: keep or save_interval is below 1.
        """
        if keep < 1 or save_interval < 1:
            raise ValueError(
                f"keep and save_interval must be at least 1, got {keep} and {save_interval}"
            )
        self.folder = Path(folder).absolute()
        self.keep, self.save_interval = keep, save_interval
        self.folder.mkdir(parents=True, exist_ok=True)

    def should_save(self, step: int) -> bool:
        """Whether `step` is a multiple of the interval."""
        return step % self.save_interval == 0

    def steps(self) -> list[int]:
        """The complete checkpoints, oldest first."""
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal())

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, or None."""
        return max(self.steps(), default=None)

    def save(
        self, step: int, state: TrainState, config: dict[str, Any], data_position: dict[str, Any]
    ) -> None:
        """Writes a checkpoint, then deletes those beyond `keep`; one of the same step is replaced.

        Args:
            step: at least 0.
            state: the state after `step` updates.
            config: JSON data.
            data_position: JSON data, from `Loader.position`.

        Raises:
            OSError: it cannot be written (a full disk, say); the older ones stay.
        """
        partial = self.folder / f"{step}{_PARTIAL}"
        for left_over in self.folder.glob(f"*{_PARTIAL}"):
            shutil.rmtree(left_over)
        try:
            partial.mkdir()
            for name, tree in _items(state).items():
                with ocp.StandardCheckpointer() as checkpointer:
                    checkpointer.save(partial / name, flatten(tree))
            for name, data in (("config", config), ("data", data_position)):
                (partial / f"{name}.json").write_text(json.dumps(data, indent=1), "utf-8")
            digests = {name: sha256(partial / name) for name in _files(partial)}
            (partial / "manifest.json").write_text(json.dumps(digests, indent=1), "utf-8")
            for name in _files(partial):
                _sync(partial / name)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            message = f"checkpoint {step} could not be written to {self.folder}: {error}"
            raise OSError(message) from error
        final = self.folder / str(step)
        if final.exists():
            final.rename(self.folder / f"{step}.replaced{_PARTIAL}")
        partial.rename(final)
        _sync(self.folder)
        for old in self.steps()[: -self.keep]:
            # Renamed first: a kill during the deletion must not leave a numbered half.
            doomed = self.folder / f"{old}{_PARTIAL}"
            (self.folder / str(old)).rename(doomed)
            shutil.rmtree(doomed)

    def restore(self, like: TrainState, step: int | None = None) -> Restored:
        """Reads a checkpoint.

        Args:
            like: a state, or its shapes (`jax.eval_shape`), of the structure to restore.
            step: which one; None takes the newest that is not damaged, and warns of each that is.

        Raises:
            FileNotFoundError: there is no such checkpoint, or none at all.
            CheckpointError: the checkpoint, or every one of them, is damaged, or holds other names
                or shapes than `like`.
        """
        known = self.steps()
        if step is not None and step not in known:
            raise FileNotFoundError(f"no checkpoint of step {step} in {self.folder}; has {known}")
        if not known:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        failures = []
        for candidate in [step] if step is not None else known[::-1]:
            try:
                _verify(self.folder / str(candidate))
            except CheckpointError as error:
                failures.append(str(error))
                _LOG.warning("checkpoint %d is damaged and passed over: %s", candidate, error)
                continue
            return self._read(candidate, like)
        raise CheckpointError(f"no good checkpoint in {self.folder}: {'; '.join(failures)}")

    def _read(self, step: int, like: TrainState) -> Restored:
        path = self.folder / str(step)
        items = {}
        for name, tree in _items(like).items():
            with ocp.StandardCheckpointer() as checkpointer:
                saved = checkpointer.metadata(path / name).item_metadata.tree
                _compare(f"{path / name}", {k: tuple(v.shape) for k, v in saved.items()}, tree)
                shapes = {
                    k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in flatten(tree).items()
                }
                items[name] = unflatten(checkpointer.restore(path / name, shapes), tree)
        config, data = (
            json.loads((path / f"{name}.json").read_text("utf-8")) for name in ("config", "data")
        )
        state = TrainState(jnp.asarray(step, jnp.int32), items["raw"], items["ema"], items["opt"])
        return Restored(step, state, config, data)


def _items(state: TrainState) -> dict[str, Any]:
    return {"raw": state.params, "ema": state.ema, "opt": state.opt_state}


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verify(folder: Path) -> None:
    """Raises CheckpointError naming the first file that is not as it was written."""
    try:
        digests = json.loads((folder / "manifest.json").read_text("utf-8"))
        expected = sorted(digests)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / 'manifest.json'} cannot be read: {error}") from error
    found = [name for name in _files(folder) if name != "manifest.json"]
    for name in sorted(set(expected) ^ set(found)):
        problem = "is missing" if name in digests else "does not belong to the checkpoint"
        raise CheckpointError(f"{folder / name} {problem}")
    for name in expected:
        if sha256(folder / name) != digests[name]:
            raise CheckpointError(f"{folder / name} is corrupt (its SHA-256 differs)")


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by dotted names, such as `down.0.conv.kernel`.

    Raises:
        ValueError: two leaves get one name.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    flat = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    if len(flat) != len(leaves):
        raise ValueError("tree must have distinct dotted names for its leaves")
    return flat


def unflatten(flat: dict[str, Any], like: Any) -> Any:
    """The inverse of `flatten`: a tree of the structure of `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in flatten(like)])


def _compare(what: str, saved: dict[str, tuple[int, ...]], like: Any) -> None:
    """Raises CheckpointError that lists how names and shapes differ from those of `like`."""
    wanted = {name: tuple(leaf.shape) for name, leaf in flatten(like).items()}
    problems = []
    for title, names in (
        ("missing", sorted(set(wanted) - set(saved))),
        ("unexpected", sorted(set(saved) - set(wanted))),
        (
            "of another shape",
            [
                f"{name} (has {saved[name]}, needs {wanted[name]})"
                for name in sorted(set(wanted) & set(saved))
                if saved[name] != wanted[name]
            ],
        ),
    ):
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            problems.append(f"{title}: {', '.join(names[:8])}{more}")
    if problems:
        raise CheckpointError(f"{what} does not fit the model; {'; '.join(problems)}")


def save_weights(path: str | Path, params: Any, dtype: Any = jnp.float32) -> None:
    """Writes weights as safetensors with flat dotted names, atomically.

    Args:
        path: the file.
        params: a pytree of arrays.
        dtype: what they are stored as, e.g. `jnp.bfloat16` for half the size.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{_PARTIAL}")
    flat = {name: jnp.asarray(leaf, dtype) for name, leaf in flatten(params).items()}
    safetensors.flax.save_file(flat, str(partial))
    partial.replace(path)


def load_weights(path: str | Path, like: Any) -> Any:
    """Reads weights that `save_weights` wrote.

    Args:
        path: the file.
        like: the params, or their shapes (`jax.eval_shape`); gives structure and dtypes.

    Returns:
        A tree like `like`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no good safetensors file, or its names or shapes do not fit; they
            are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    try:
        flat = safetensors.flax.load_file(str(path))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a good safetensors file: {error}") from error
    _compare(str(path), {name: tuple(leaf.shape) for name, leaf in flat.items()}, like)
    typed = {name: jnp.asarray(flat[name], leaf.dtype) for name, leaf in flatten(like).items()}
    return unflatten(typed, like)
