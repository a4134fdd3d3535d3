"""The models a server offers: one by default, more from a folder, a few kept in memory."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dg2_jax.models.folder import EMBEDDED, folder_of, weights_of

Loader = Callable[[str | Path], Any]


def load_pipeline(model: str | Path, dtype: str | None = None) -> Any:
    """A `dg2_jax.Pipeline`."""
    from dg2_jax import Pipeline  # JAX takes seconds to import; the server answers before

    pipe = Pipeline.load(model)
    return pipe if dtype is None else pipe.quantized(dtype)


class Models:
    """Models by name. `get` is for the worker's thread alone; all else is safe anywhere."""

    def __init__(
        self,
        default: str = "demo",
        folder: Path | None = None,
        load: Loader = load_pipeline,
        keep: int = 2,
    ):
        self._load = load
        self._keep = keep
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._places: dict[str, str | Path] = {name: name for name in EMBEDDED}
        if folder is not None:
            found = sorted(folder.glob("*/config.json"))
            self._places |= {path.parent.name: path.parent for path in found}
        self.default = default
        if default not in self._places:
            self.default = Path(default).name or default
            self._places[self.default] = default

    @property
    def names(self) -> list[str]:
        """Of all models."""
        return list(self._places)

    def resolve(self, name: str | None) -> str:
        """A model's name, the default for None.

        Raises:
            ValueError: naming the models there are.
        """
        if name is None:
            return self.default
        if name not in self._places:
            raise ValueError(f"model must be one of {', '.join(self._places)}; got {name[:80]!r}")
        return name

    def get(self, name: str) -> Any:
        """The pipeline of a name, loaded if need be.

        Raises:
            FileNotFoundError, dg2_jax.models.folder.ModelError: as `Pipeline.load`.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(self._places[name])
        self._loaded.move_to_end(name)
        while len(self._loaded) > self._keep:
            self._loaded.popitem(last=False)
        return self._loaded[name]

    def describe(self) -> list[dict[str, Any]]:
        """All models, the default one first."""
        names = sorted(self._places, key=lambda name: (name != self.default, name))
        return [self.details(name) for name in names]

    def details(self, name: str) -> dict[str, Any]:
        """One model, by a name that `resolve` gives."""
        path = folder_of(self._places[name]) / "config.json"
        pipe = self._loaded.get(name)
        try:
            text = path.read_bytes()
            config = json.loads(text)
        except (OSError, ValueError):
            text, config = b"", {}
        return {
            "name": name,
            "title": config.get("title", name),
            "size": pipe.model.default_size if pipe else config.get("default_size"),
            "weights": list(weights_of(config)) or ["ema"],  # what is wrong is told at its loading
            "sampling": config.get("sampling", {}),
            "loaded": pipe is not None,
            "default": name == self.default,
            "hash": hashlib.sha256(text).hexdigest()[:10] if text else None,
        }
