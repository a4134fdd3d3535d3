"""The model folder: a trained or imported latent-diffusion model on disk.

    config.json                 denoiser, diffusion process, autoencoder, text encoder; optionally
                                the linear preview of its latents and the default sampling settings
                                of each set of weights
    denoiser.ema.safetensors    averaged weights
    denoiser.raw.safetensors    last weights of the training
    denoiser.fast.safetensors   optional: weights distilled to few unguided steps
    vae.safetensors             autoencoder (unless config.json names a published one)
    text_encoder, tokenizer     of an imported Stable Diffusion model, and text_encoder_2,
                                tokenizer_2: its text encoders, in Hugging Face layout
    MODEL_CARD.md               training data, duration and commands

Weights have flat dotted names; config.json holds the SHA-256 of every weights file. A set of the
denoiser's weights is read on first use.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dg2_jax.files import read_json, replacing, sha256
from dg2_jax.models import model as model_lib
from dg2_jax.models import stable_diffusion, weights_file
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.model import WEIGHTS, Model, ModelError, Params
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.network import Bound, Design, Network

FORMAT = 1
SAMPLING = ("num_inference_steps", "guidance_scale", "solver", "spacing")  # set by config.json
_VAE = "vae.safetensors"
EMBEDDED = {"demo": Path(__file__).parents[1] / "pretrained" / "demo"}


def folder_of(model: str | Path) -> Path:
    """The folder of an embedded model, by name; any other path is returned as a folder."""
    return EMBEDDED.get(str(model), Path(model))


def weights_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The sets of weights that a model folder with this config.json has.

    A model that is in no such folder has one, "ema".
    """
    return tuple(n for n in WEIGHTS if _file(n) in config.get("files", (_file("ema"),)))


def hash_of(config: Mapping[str, Any], weights: str) -> str | None:
    """The start of the SHA-256 of a set of weights, by which other tools tell models apart."""
    files = config.get("files")
    digest = files.get(_file(weights)) if isinstance(files, Mapping) else None
    return digest[:10] or None if isinstance(digest, str) else None


def _file(weights: str) -> str:
    return f"denoiser.{weights}.safetensors"


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder; raises as `load`."""
    path = folder / "config.json"
    if not folder.is_dir():
        known = ", ".join(EMBEDDED)
        raise FileNotFoundError(
            f"model must be one of {known}, or a folder or file; there is no {folder}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a model folder: it has no config.json")
    try:
        config = read_json(path)
    except ValueError as error:
        raise ModelError(f"{path} is not good JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelError(f"{path} must be an object with format {FORMAT}")
    for key in ("model", "denoiser", "diffusion", "vae", "text_encoder"):
        if key not in config:
            raise ModelError(f"{path} lacks the key {key!r}")
    if config["model"] not in ARCHITECTURES:
        raise ModelError(f"{path}: model must be one of {', '.join(ARCHITECTURES)}")
    if not weights_of(config):
        raise ModelError(f"{path}: files must list {_file('ema')} or other weights")
    sampling = config.get("sampling", {})
    for settings in sampling.values() if isinstance(sampling, dict) else [sampling]:
        if not isinstance(settings, dict) or not set(settings) <= set(SAMPLING):
            raise ModelError(f"{path}: sampling must hold {', '.join(SAMPLING)} by set of weights")
    return config


def _check_file(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise FileNotFoundError(f"the model folder {folder} has no {name}")


def _read_weights(folder: Path, name: str, config: Mapping[str, Any], like: Params) -> Params:
    _check_file(folder, name)
    path = folder / name
    if sha256(path) != config["files"].get(name):
        raise ModelError(f"{path} is damaged: its SHA-256 is not the one in config.json")
    # Stable Diffusion stays in the dtype that it was published in.
    keeps = config["model"] == stable_diffusion.ARCHITECTURE and name != _VAE
    try:
        return weights_file.load(path, like, keep_dtype=keeps)
    except weights_file.WeightsError as error:
        raise ModelError(str(error)) from error


def load(model: str | Path) -> Model:
    """Loads an embedded model by name ("demo") or any model folder by path.

    The denoiser's weights are read, and damage to their files is reported, when `Model.params` is
    first asked for them.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing.
        ModelError: a file that is damaged or does not fit the configuration.
    """
    folder = folder_of(model)
    config = read_config(folder)
    weights = weights_of(config)
    for name in weights:
        _check_file(folder, _file(name))
    return model_lib.create(
        config,
        _load_autoencoder(folder, config),
        lambda name, shapes: _read_weights(folder, _file(name), config, shapes),
        weights,
        name=str(model),
        compute_dtype=_compute_dtype(config),
    )


def _compute_dtype(config: Mapping[str, Any]) -> Any:
    """Stable Diffusion computes in what the device is fast at, other models in float32."""
    is_sd = config["model"] == stable_diffusion.ARCHITECTURE
    return stable_diffusion.compute_dtype() if is_sd else jnp.float32


def _load_autoencoder(folder: Path, config: Mapping[str, Any]) -> Bound:
    """The folder's own autoencoder, or the published one that the configuration names."""
    if "pretrained" in config["vae"]:
        from dg2_jax.interop import diffusers_vae  # late: it imports Flax
        from dg2_jax.nn.modules import bound  # likewise

        return bound(diffusers_vae.from_pretrained(config["vae"]["pretrained"]))
    try:
        vae_config = AutoencoderConfig.from_dict(config["vae"])
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from error
    network = Network(Design("dg2_jax.nn.autoencoder:AutoencoderKL", vae_config))
    return Bound(network, _read_weights(folder, _VAE, config, network.shapes), vae_config)


def save(
    folder: str | Path,
    config: Mapping[str, Any],
    params: Mapping[str, Params],
    autoencoder_params: Params | None = None,
    dtype: Any = jnp.bfloat16,
) -> None:
    """Writes a model folder; config.json last, so that a half-written folder does not load.

    Args:
        folder: created if missing.
        config: config.json without "format" and "files", which are added.
        params: denoiser parameters by the name of their set, at least one of `WEIGHTS`.
        autoencoder_params: None where `config["vae"]` names a published autoencoder.
        dtype: of the stored weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trees = {_file(name): tree for name, tree in params.items()}
    if autoencoder_params is not None:
        trees[_VAE] = autoencoder_params
    _write(folder, {"format": FORMAT, **config}, trees, dtype)


def add_weights(
    folder: str | Path,
    name: str,
    params: Params,
    sampling: Mapping[str, Any],
    dtype: Any = jnp.bfloat16,
) -> None:
    """Writes a set of weights into a model folder, in place of one of the same name.

    Args:
        folder: of the model.
        name: of the set, one of `WEIGHTS`.
        params: denoiser parameters.
        sampling: defaults of `SAMPLING` for calls with these weights.
        dtype: of the stored weights.

    Raises:
        FileNotFoundError, ModelError: it is not a model folder.
    """
    folder = Path(folder)
    config = read_config(folder)
    config["sampling"] = {**config.get("sampling", {}), name: dict(sampling)}
    _write(folder, config, {_file(name): params}, dtype)


def _write(
    folder: Path, config: Mapping[str, Any], trees: Mapping[str, Params], dtype: Any
) -> None:
    """Writes weights files, then config.json with their SHA-256."""
    for name, tree in trees.items():
        weights_file.save(folder / name, jax.device_get(tree), dtype)
    files = {**config.get("files", {}), **{name: sha256(folder / name) for name in trees}}
    text = json.dumps({**config, "files": files}, indent=1)
    with replacing(folder / "config.json") as partial:
        partial.write_text(text + "\n", encoding="utf-8")
