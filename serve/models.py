"""The models a server offers: those it was told, more from a folder, a few kept in memory."""

import dataclasses
import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dg2_jax.checks import check_choice
from dg2_jax.controls import model_facts
from dg2_jax.controls.model_facts import ModelFacts
from dg2_jax.interop import recognition
from dg2_jax.models import sources
from dg2_jax.models.folder import EMBEDDED, hash_of
from dg2_jax.models.model import ModelError
from dg2_jax.recent import recall
from dg2_jax.serve import sizes
from dg2_jax.serve.sizes import Size

Loader = Callable[[str | Path], Any]


def load_pipeline(model: str | Path, dtype: str | None = None, **folders: Any) -> Any:
    """A `dg2_jax.Pipeline` on all devices of this process; `folders` are of `Pipeline.load`."""
    import jax  # it takes seconds to import; the server answers before

    from dg2_jax import Pipeline  # likewise

    pipe = Pipeline.load(model, **folders)
    pipe = pipe if dtype is None else pipe.quantized(dtype)
    devices = jax.local_devices()
    return pipe.spread(devices) if len(devices) > 1 else pipe


class Models:
    """Models by name. `get` is for the worker's thread alone; all else is safe anywhere."""

    def __init__(
        self,
        default: str = "demo",
        folder: Path | None = None,
        load: Loader = load_pipeline,
        keep: int = 2,
        allowed_sizes: Sequence[str] = (),
    ):
        self._load = load
        self._sizes = allowed_sizes
        self._keep = keep
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._places: dict[str, str | Path] = {name: name for name in EMBEDDED}
        if folder is not None:
            self._places |= sources.names_in(folder)
        self._configs: dict[str, tuple[Any, dict[str, Any]]] = {}
        # A comma may be part of the one model's name.
        told = [default] if Path(default).exists() else [t for t in default.split(",") if t]
        self._told = [self._add(source.strip()) for source in told or ["demo"]]
        self.default = self._told[0]

    def _add(self, source: str) -> str:
        """The name of a model that was told, by the last part of its path or id."""
        if source in self._places:
            return source
        path = Path(source)
        base = path.stem if path.suffix in sources.SUFFIXES else path.name or source
        name, number = base, 2
        while name in self._places and Path(self._places[name]) != path:
            name, number = f"{base}-{number}", number + 1
        self._places[name] = source
        return name

    def check(self) -> None:
        """Looks at the models that were told, but for those of the hub, before any is loaded.

        Raises:
            ModelError: there is none, or its description is not one of a model.
        """
        for name in self._told:
            place = self._places[name]
            if not sources.is_own(place) and not Path(place).expanduser().exists():
                if recognition.may_be_hub_id(str(place)):
                    continue
                known = ", ".join(EMBEDDED)
                raise ModelError(f"must be {known}, a folder, a file or a hub id; got {place!r}")
            try:
                model_facts.from_config(name, self._config(name))
            except (OSError, ValueError) as error:
                raise ModelError(str(error)) from error
            except (KeyError, TypeError, AttributeError) as error:
                raise ModelError(f"{place}: its config.json lacks or mistakes {error}") from error

    @property
    def names(self) -> list[str]:
        """Of all models."""
        return list(self._places)

    def resolve(self, name: str | None, parameter: str = "model") -> str:
        """A model's name, the default for None.

        Raises:
            ParameterError: of the parameter, naming the models there are.
        """
        if name is None:
            return self.default
        check_choice(parameter, name, self._places)
        return name

    def place(self, name: str) -> str | Path:
        """Where the library finds a model: the name of an embedded one, a path or a hub id."""
        return self._places[name]

    def load_default(self) -> None:
        """Loads the default model, with the set of weights that is used where none is named.

        Raises:
            ValueError: as `get`, or the weights are damaged.
        """
        pipe = self.get(self.default)
        next(iter(pipe.model.params.values()))  # each set is read when it is first asked for

    def get(self, name: str) -> Any:
        """The pipeline of a name, loaded if need be.

        Raises:
            ValueError: as `Pipeline.load`, or a part of the model is missing.
        """
        try:
            load = functools.partial(self._load, self._places[name])
            return recall(self._loaded, name, load, self._keep)
        except FileNotFoundError as error:
            raise ModelError(str(error)) from error

    @property
    def loaded_names(self) -> list[str]:
        """Of the models in memory, the last used one last."""
        return list(self._loaded)

    def loaded(self, name: str) -> Any:
        """The pipeline of a name if it is in memory, else None."""
        return self._loaded.get(name)

    def describe(self) -> list[dict[str, Any]]:
        """All models, the default one first."""
        names = sorted(self._places, key=lambda name: (name != self.default, name))
        return [self.details(name) for name in names]

    def announced(self) -> list[dict[str, Any]]:
        """All models as a process without them needs to know them: `details`, and config.json."""
        return [
            {"details": details, "config": self._known(details["name"])}
            for details in self.describe()
        ]

    def _known(self, name: str) -> dict[str, Any] | None:
        try:
            return self._config(name)
        except (OSError, ValueError, AttributeError):
            return None

    def facts(self, name: str) -> ModelFacts | None:
        """What a model can be asked for; None where its configuration cannot be used.

        That of a model of the hub is known once it is loaded.
        """
        try:
            facts = model_facts.from_config(name, self._config(name))
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return None
        pipe = self._loaded.get(name)
        return dataclasses.replace(facts, size=pipe.model.default_size) if pipe else facts

    def _config(self, name: str) -> dict[str, Any]:
        """The config.json of a model; raises as `sources.config_of`."""
        place = self._places[name]
        stamp = sources.stamp(place)
        if name not in self._configs or self._configs[name][0] != stamp:
            pipe = self._loaded.get(name)
            fetched = pipe if stamp is None else None
            config = fetched.model.config if fetched else sources.config_of(place)
            self._configs[name] = stamp, config
        return self._configs[name][1]

    def sizes(self, name: str) -> list[Size]:
        """The sizes of a model's pictures, its own first; empty where they are not known."""
        facts = self.facts(name)
        return sizes.allowed(facts, self._sizes) if facts else []

    def hires_sizes(self, name: str) -> list[Size]:
        """The sizes that a model's second pass may make; empty where they are not known."""
        return sizes.of_second_pass(self.sizes(name), self._sizes)

    def hash_of(self, name: str, weights: str | None) -> str | None:
        """By which other tools know a set of a model's weights; None where there is none."""
        return self.details(name)["hashes"].get(weights)

    def details(self, name: str) -> dict[str, Any]:
        """One model, by a name that `resolve` gives."""
        config = self._known(name)
        text = b"" if config is None else json.dumps([config, name]).encode()
        config = config or {}
        facts = self.facts(name)
        sets = list(facts.weights) if facts else ["ema"]  # loading tells what is wrong
        hashes = {weights: _hash(config, text, weights) for weights in sets}
        return {
            "name": name,
            "title": config.get("title", name),
            "size": facts.size if facts else None,
            "sizes": self.sizes(name),
            "hires_sizes": self.hires_sizes(name),
            "multiple": facts.multiple if facts else 8,
            "weights": sets,
            "sampling": dict(facts.sampling) if facts else {},
            "lacks": list(facts.lacks) if facts else [],
            "loaded": name in self._loaded,
            "default": name == self.default,
            "hash": hashes[sets[0]],
            "hashes": hashes,
        }


def _hash(config: Any, text: bytes, weights: str) -> str | None:
    """Of a set of weights; where config.json does not tell that of the file, of config.json."""
    if not text:
        return None
    told = hash_of(config, weights) if isinstance(config, dict) else None
    return told or hashlib.sha256(text + weights.encode()).hexdigest()[:10]
