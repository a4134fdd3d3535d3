"""Adapters of a model: LoRA files and textual-inversion embeddings, by path or from a folder.

A file's name without its ending is what prompts call it by: `<lora:name:0.8>` for LoRA files, the
bare word for embeddings. Applying one does not change the model that it is applied to, and another
weight compiles nothing.
"""

import dataclasses
import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.checks import ParameterError, check
from dg2_jax.interop.stable_diffusion import embeddings as embedding_files
from dg2_jax.models import lora, stable_diffusion
from dg2_jax.models.model import Model, WeightSets
from dg2_jax.recent import recall
from dg2_jax.text.interface import PromptEncoder
from dg2_jax.text.prompt_tags import LoraTag

_LORA_SUFFIXES = (".safetensors",)
_DESCRIPTION = "config.json"  # of a model, beside its weights
_OF_NETWORK = re.compile(r"unet\.|texts\.\d\.")
_KEPT = 1  # models with adapters: their changed weights are copies


def adapted(
    model: Model, text_encoder: PromptEncoder, path: str | Path, weight: float = 1.0
) -> tuple[Model, PromptEncoder]:
    """A model and its text encoder with a LoRA file added.

    Args:
        model: the model, which stays as it is.
        text_encoder: likewise; files of others may change it too.
        path: what scripts.train wrote, or for Stable Diffusion a file in kohya's or PEFT's layout.
        weight: 0 changes nothing, 1 is as trained.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of a kind that is not read, or for another model; or the weight
            is not finite, or the model is quantized.
    """
    from dg2_jax.interop.stable_diffusion import lora as sd_lora  # late: they import Flax
    from dg2_jax.interop.stable_diffusion import lora_file  # likewise
    from dg2_jax.text.stable_diffusion import StableDiffusionText  # likewise

    path = Path(path).expanduser()
    if not isinstance(text_encoder, StableDiffusionText) or lora.is_own(path):
        return lora.adapted(model, path, weight), text_encoder
    if model.denoiser.is_quantized:
        raise ValueError(f"lora must be added before {model.name} is quantized")
    check(math.isfinite(weight), "weight", "a finite number", weight)
    sets, encoders = model.params, text_encoder.encoders
    first = sets[next(iter(sets))]
    held = lora_file.read(model.denoiser_config, first, encoders.params, path)
    texts = tuple(
        sd_lora.changed(params, factors, weight)
        for params, factors in zip(encoders.params, held.texts, strict=True)
    )
    params = WeightSets(tuple(sets), lambda name: sd_lora.changed(sets[name], held.unet, weight))
    changed = dataclasses.replace(model, name=f"{model.name}+{path.stem}:{weight:g}", params=params)
    encoders = dataclasses.replace(encoders, params=texts)
    return changed, dataclasses.replace(text_encoder, encoders=encoders)


def save(
    path: str | Path, trained: lora.Adapters, config: lora.LoraConfig, architecture: str
) -> None:
    """Writes trained adapters: Stable Diffusion's in kohya's layout, others as `lora.save`.

    Names of a UNet with its text encoders begin with `unet.`, `texts.0.` and `texts.1.`.
    """
    if architecture != stable_diffusion.ARCHITECTURE:
        lora.save(path, trained, config, architecture)
        return
    from dg2_jax.interop.stable_diffusion import kohya  # late: it imports Flax

    networks: dict[str, dict[str, kohya.Matrices]] = {}  # by the prefix of names
    for name, of in trained.items():
        found = _OF_NETWORK.match(name)
        prefix = found[0] if found else ""
        matrices = np.asarray(of["a"]), np.asarray(of["b"])
        networks.setdefault(prefix, {})[name.removeprefix(prefix)] = matrices
    unet = networks.pop("unet.", None) or networks.pop("")
    kohya.write(Path(path), unet, config.alpha, [networks[prefix] for prefix in sorted(networks)])


class Library:
    """The adapters of two folders, by name, and the last models that they were applied to."""

    def __init__(self, loras: str | Path | None = None, embeddings: str | Path | None = None):
        """Folders of LoRA files and of embeddings, with what lies in folders below; or None."""
        self._loras, self._embeddings = loras, embeddings
        self._models: OrderedDict[tuple, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Without the models, whose keys are true of this object in this process alone."""
        return {**self.__dict__, "_models": OrderedDict()}

    def loras(self) -> dict[str, Path]:
        """The LoRA files by name."""
        return _files_in(self._loras, _LORA_SUFFIXES)

    def embeddings(self) -> dict[str, Path]:
        """The embeddings by name."""
        return _files_in(self._embeddings, embedding_files.SUFFIXES)

    def check(self, tags: Iterable[LoraTag]) -> None:
        """Raises ParameterError, naming those there are, unless there is a file for every tag."""
        names = dict.fromkeys(tag.name for tag in tags)
        known = self.loras() if names else {}
        for name in names:
            if name not in known:
                there = f"there are {', '.join(known)}" if known else "there are none"
                raise ParameterError("prompt", f"names the LoRA {name!r:.80}, but {there}")

    def applied(
        self, model: Model, text_encoder: PromptEncoder, tags: Sequence[LoraTag]
    ) -> tuple[Model, PromptEncoder]:
        """The model and its text encoder with the adapters of a prompt.

        Raises:
            ParameterError: there is no such file, or it is not for this model.
        """
        if not tags:
            return model, text_encoder
        self.check(tags)
        paths = self.loras()
        used = tuple(
            (paths[tag.name], paths[tag.name].stat().st_mtime_ns, tag.weight) for tag in tags
        )

        def apply() -> Any:
            changed = model, text_encoder
            for tag in tags:
                try:
                    changed = adapted(*changed, paths[tag.name], tag.weight)
                except (ValueError, OSError) as error:
                    problem = f"names the LoRA {tag.name!r}, but {error}"
                    raise ParameterError("prompt", problem) from error
            return changed, (model, text_encoder)  # what the key names must live as long as it does

        return recall(self._models, (id(model), id(text_encoder), used), apply, _KEPT)[0]

    def with_words(self, text_encoder: PromptEncoder, prompts: Iterable[str]) -> PromptEncoder:
        """The text encoder that knows the embeddings whose names the prompts hold.

        Raises:
            ParameterError: an embedding's file is damaged or for another model.
        """
        files = self.embeddings()
        if not files:
            return text_encoder
        from dg2_jax.text.stable_diffusion import StableDiffusionText  # late: it imports Flax

        if not isinstance(text_encoder, StableDiffusionText):
            return text_encoder
        text = "\n".join(prompts)
        words = {}
        for name, path in files.items():
            if embedding_files.pattern(name).search(text):
                try:
                    words[name] = embedding_files.read(path, text_encoder.encoders.widths)
                except (ValueError, OSError) as error:
                    problem = f"names the embedding {name!r}, but {error}"
                    raise ParameterError("prompt", problem) from error
        return text_encoder.with_words(words) if words else text_encoder


def _files_in(folder: str | Path | None, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files of a folder and below by their names without endings; the first of a name.

    A model's weights, which have its description beside them, are left out.
    """
    if folder is None or not Path(folder).expanduser().is_dir():
        return {}
    paths: dict[str, Path] = {}
    for path in sorted(Path(folder).expanduser().rglob("*")):
        if path.suffix in suffixes and path.is_file() and not path.with_name(_DESCRIPTION).exists():
            paths.setdefault(path.stem, path)
    return dict(sorted(paths.items()))
