"""What a model may be given as, and how each of it is opened; every caller comes through here.

    "demo"                      an embedded model
    models/mine                 a model folder (`dg2_jax.models.folder`)
    models/sd15, owner/name     a diffusers folder of Stable Diffusion, here or on the hub
    v1-5.safetensors, x.ckpt    Stable Diffusion in one file under its original names

What the files cannot tell is told by `SourceOptions`, as arguments or in a JSON object of the same
name beside file or folder, v1-5.json: {"prediction_type": "v_prediction", "few_steps": 4}.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dg2_jax import config as config_lib
from dg2_jax.files import read_json
from dg2_jax.interop import hf_folder, recognition
from dg2_jax.interop import stable_diffusion as sd_files
from dg2_jax.interop.recognition import Kind
from dg2_jax.interop.stable_diffusion.parts import Parts
from dg2_jax.models import folder as folders
from dg2_jax.models import stable_diffusion
from dg2_jax.models.model import Model, ModelError
from dg2_jax.text import loading
from dg2_jax.text.interface import PromptEncoder

SUFFIXES = (".safetensors", ".ckpt")  # of files that are listed as models
_FOR_FILES = ("config", "num_attention_heads", "norm_num_groups", "sample_size")
_FOR_FOLDERS = ("variant",)


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """What the files of a Stable Diffusion model cannot tell, or are to be overruled in.

    Attributes:
        prediction_type: what the UNet predicts, such as "v_prediction"; None as the files say.
        zero_terminal_snr: whether the noise schedule ends in pure noise; None as the files say.
        few_steps: for models distilled to few unguided steps that do not say so (Lightning,
            Hyper): sampled in this many by default, without guidance, at trailing timesteps.
        variant: of a folder's weights, such as "fp16"; None is the plain one, or what there is.
        config: a diffusers folder whose configurations and tokenizers go with a file.
        num_attention_heads: of each of the UNet's levels, of a file of unusual widths.
        norm_num_groups: of UNet and autoencoder, of a file.
        sample_size: side of the latents that a file's model was trained on.
        taesd: folder or hub id of a TAESD for the model's latents, to decode previews and pictures
            with where they ask for it.
    """

    prediction_type: str | None = None
    zero_terminal_snr: bool | None = None
    few_steps: int | None = None
    variant: str | None = None
    config: str | None = None
    num_attention_heads: tuple[int, ...] | None = None
    norm_num_groups: int = 32
    sample_size: int | None = None
    taesd: str | None = None

    def __post_init__(self) -> None:
        if self.few_steps is not None and not 1 <= self.few_steps <= 100:
            raise ValueError(f"few_steps must be from 1 to 100, got {self.few_steps}")
        numbers: dict[str, tuple[int | None, ...]] = {
            "norm_num_groups": (self.norm_num_groups,),
            "sample_size": (self.sample_size,),
            "num_attention_heads": self.num_attention_heads or (),
        }
        for name, values in numbers.items():
            if any(value is not None and value < 1 for value in values):
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def check_used(self, source: str | Path, *, is_file: bool) -> None:
        """Raises ModelError, naming it, where an option has no use for a file, or for a folder."""
        for name in _FOR_FOLDERS if is_file else _FOR_FILES:
            if getattr(self, name) != getattr(SourceOptions, name):
                kind = "a folder, not of a file" if is_file else "a file, not of a folder"
                raise ModelError(f"{name} is an option of {kind} such as {source}")


class Loaded(NamedTuple):
    """A model and the text encoder that it was trained with."""

    model: Model
    text_encoder: PromptEncoder


def load(
    source: str | Path,
    options: SourceOptions | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Loaded:
    """Opens a model.

    Args:
        source: see the head of this file.
        options: of a Stable Diffusion model; None: of the JSON file beside it, if any.
        on_progress: called with the bytes of the weights read so far and in all.

    Raises:
        FileNotFoundError: there is no such model, or a part of it is missing.
        ValueError: a file is damaged or hostile, or of another kind of model; the message names it
            and says of what kind. Nothing of it was run.
    """
    if is_own(source):
        return _load_own(source, options)
    from dg2_jax.interop.stable_diffusion.model import build  # late: they import Flax
    from dg2_jax.models import sd_memory  # likewise

    options = options_of(source, options)
    parts = read_parts(source, options)
    loaded = build(str(source), parts, compute_dtype=stable_diffusion.compute_dtype(),
                   on_progress=on_progress)  # fmt: skip
    model, text_encoder = sd_memory.create(loaded, describe(parts, options))
    return Loaded(_with_taesd(model), text_encoder)


def config_of(source: str | Path, options: SourceOptions | None = None) -> dict[str, Any]:
    """The config.json of a model, without reading its weights; arguments and errors as of `load`.

    A model of the hub is not fetched for it.
    """
    if not is_own(source) and not Path(source).expanduser().exists():
        raise FileNotFoundError(f"{source} is not on this machine")
    return described(source, options)


def described(source: str | Path, options: SourceOptions | None = None) -> dict[str, Any]:
    """`config_of` that fetches a model of the hub."""
    if is_own(source):
        return folders.read_config(folders.folder_of(source))
    options = options_of(source, options)
    return describe(read_parts(source, options), options)


def stamp(source: str | Path) -> tuple[float, ...] | None:
    """Changes where what `config_of` reads has changed; None where the model is not here."""
    path = folders.folder_of(source).expanduser()
    read = [path / "config.json", path / "model_index.json"] if path.is_dir() else [path]
    read.append(_beside(path))
    times = [one.stat().st_mtime for one in read if one.is_file()]
    return tuple(times) if times else None


def names_in(folder: Path) -> dict[str, Path]:
    """The models that lie in a folder, by name: folders of models, and whole models in one file.

    Other files (adapters, autoencoders), other pipelines (Flux) and damaged files are left out, and
    so is what has a name that another model has already.
    """
    paths: dict[str, Path] = {}
    for path in sorted(folder.expanduser().iterdir()) if folder.expanduser().is_dir() else ():
        if recognition.is_whole(path):
            paths.setdefault(path.name if path.is_dir() else path.stem, path)
    return paths


def is_stable_diffusion(source: str) -> bool:
    """Whether a source would be opened as Stable Diffusion: by what it holds, or as a hub id."""
    path = Path(source).expanduser()
    if path.exists():
        return recognition.kind_of(path) in (Kind.DIFFUSERS, Kind.SD_FILE)
    return recognition.may_be_hub_id(source)


def read_parts(source: str | Path, known: SourceOptions) -> Parts:
    """The parts of a Stable Diffusion model, by `options_of`; errors as of `load`."""
    path = Path(source).expanduser()
    if path.exists():
        recognition.refuse_model(path)
    elif not recognition.may_be_hub_id(str(source)):
        missing = f"there is no {source}"
        names = ", ".join(folders.EMBEDDED)
        raise FileNotFoundError(f"model must be one of {names}, or a folder or file; {missing}")
    known.check_used(source, is_file=path.is_file())
    try:
        return sd_files.read_parts(
            source,
            variant=known.variant,
            prediction_type=known.prediction_type,
            zero_terminal_snr=known.zero_terminal_snr,
            file_options=sd_files.FileOptions(
                known.config, known.num_attention_heads, known.norm_num_groups, known.sample_size
            ),
        )
    except ValueError as error:
        raise ModelError(str(error)) from error


def describe(parts: Parts, options: SourceOptions) -> dict[str, Any]:
    """The config.json of a Stable Diffusion model, as it is sampled with these options."""
    values = stable_diffusion.description(parts)
    if options.taesd is not None:
        values["taesd"] = hf_folder.lasting_name(options.taesd)
    if options.few_steps is not None:
        values["diffusion"]["spacing"] = "trailing"
        sampling = values["sampling"]["ema"]
        solver = sampling["solver"] if sampling["solver"] == "lcm" else "euler"
        sampling |= {"num_inference_steps": options.few_steps, "guidance_scale": 1.0,
                     "solver": solver}  # fmt: skip
    return values


def options_of(source: str | Path, options: SourceOptions | None) -> SourceOptions:
    """Those that are given, else those beside the file; raises ModelError where they are wrong."""
    path = Path(source).expanduser()
    beside = _beside(path)
    if options is not None or not beside.is_file():
        return options or SourceOptions()
    try:
        values: Mapping[str, Any] = read_json(beside)
        if not isinstance(values, dict):
            raise ValueError("it must be a JSON object")
        return options_from(values, beside.name)
    except ValueError as error:
        raise ModelError(f"{beside}: {error}") from error


def options_from(values: Mapping[str, Any], name: str = "options") -> SourceOptions:
    """The options of plain data that errors call `name`; paths may be `Path`s."""
    plain = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in values.items()}
    return config_lib.from_mapping(SourceOptions, plain, name)


def _beside(path: Path) -> Path:
    """Where the options of a model lie: v1-5.json beside v1-5.safetensors or the folder v1-5."""
    path = Path(os.path.abspath(path))  # "." has no name; links keep theirs
    return path.parent / ((path.stem if path.is_file() else path.name) + ".json")


def is_own(source: str | Path) -> bool:
    """Whether it is an embedded model or a model folder, `dg2_jax.models.folder`."""
    folder = folders.folder_of(source).expanduser()
    return recognition.kind_of(folder) is Kind.OWN


def _with_taesd(model: Model) -> Model:
    """The model with the TAESD that its configuration names, if it does."""
    if "taesd" not in model.config:
        return model
    from dg2_jax.interop import taesd  # late: they import Flax
    from dg2_jax.nn.modules import split  # likewise

    tiny = taesd.from_pretrained(model.config["taesd"])
    if tiny.config.latent_channels != model.latent_channels:
        raise ModelError(
            f"{model.config['taesd']} is for latents of {tiny.config.latent_channels} channels, "
            f"those of {model.name} have {model.latent_channels}"
        )
    if tiny.downsampling_factor != model.autoencoder_config.downsampling_factor:
        raise ModelError(
            f"{model.config['taesd']} has {tiny.downsampling_factor} pixels to a latent cell, "
            f"{model.name} {model.autoencoder_config.downsampling_factor}"
        )
    network, params = split(tiny)
    return dataclasses.replace(model, taesd=network, taesd_params=params)


def _load_own(source: str | Path, options: SourceOptions | None) -> Loaded:
    if options is not None and options != SourceOptions():
        raise ModelError(f"{source} is a model folder, whose config.json says it all: no options")
    model = _with_taesd(folders.load(source))
    text = model.config["text_encoder"]
    if "encoders" not in text:
        return Loaded(model, loading.from_config(text))
    from dg2_jax.interop.stable_diffusion.folder import read_texts  # late: they import Flax
    from dg2_jax.interop.stable_diffusion.model import build_texts  # likewise
    from dg2_jax.text.stable_diffusion import StableDiffusionText  # likewise

    folder = folders.folder_of(source)
    texts = build_texts(
        read_texts(folder, text["encoders"]),
        bool(text["penultimate"]),
        bool(text["zeros_for_no_prompt"]),
    )
    return Loaded(model, StableDiffusionText(str(source), texts))
