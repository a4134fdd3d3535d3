"""What a data set is prepared from, and the bookkeeping files written while building it."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import nnx

from dg2_jax.checks import check
from dg2_jax.data import encoding, latents, screening
from dg2_jax.data.sources.interface import PictureSource
from dg2_jax.data.sources.spec import SourceSpec
from dg2_jax.files import replacing, sha256
from dg2_jax.interop.diffusers_vae import from_pretrained
from dg2_jax.interop.hf_folder import lasting_name
from dg2_jax.models import coders, sources, weights_file
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.interface import SIZES
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.text.interface import PromptEncoder
from dg2_jax.text.loading import load_text_encoder

RESIZE_MODES = ("crop", "bucket")
DEFAULT_SIZE = 128


@dataclass(frozen=True)
class Recipe:
    """What a data set is built from, and how.

    Attributes:
        source: of the pictures.
        out: the folder to create.
        model: an embedded model's name, a model folder, or Stable Diffusion (see
            `dg2_jax.models.sources`), whose autoencoder, latent scaling and text encoder are used;
            `init_from` of a training run needs these. Empty if `vae` is given.
        vae: a folder written by scripts.train_vae, whose latents are measured and scaled to mean 0
            and variance 1; or a published autoencoder (folder or hub id), with its scaling.
        text_encoder: as `dg2_jax.text.loading.load_text_encoder` takes it; a model has its own.
        max_length: tokens that a caption is cut to; a model has its own.
        size: side of a picture in pixels; 0 for the model's, or 128.
        resize_mode: "crop" makes squares; "bucket" picks, among several sizes of about size²
            pixels, the one that crops a picture least. Nothing is ever distorted.
        bucket_step: the sides of a bucket are multiples of it.
        min_side: minimum length of a picture's shorter side in pixels; 0 for half of `size`.
        validation_share: of the pictures, where the source does not name its own.
        shard_pictures: pictures per unit, and so at most per shard.
    """

    source: SourceSpec
    out: Path
    model: str = ""
    vae: str = ""
    text_encoder: str = "minilm"
    max_length: int = 64
    size: int = 0
    resize_mode: str = "crop"
    bucket_step: int = 32
    min_side: int = 0
    validation_share: float = 0.05
    shard_pictures: int = 1024

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.vae):
            raise ValueError("either model or vae must be given, and not both")
        check(
            self.resize_mode in RESIZE_MODES,
            "resize_mode",
            f"one of {RESIZE_MODES}",
            self.resize_mode,
        )
        check(0 < self.validation_share < 1, "validation_share", "in (0, 1)", self.validation_share)
        for name in ("size", "min_side"):
            check(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("bucket_step", "shard_pictures", "max_length"):
            check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))

    @property
    def parts(self) -> Path:
        """Where the receipts are."""
        return self.out / "parts"

    def receipt(self, stage: str, unit: int) -> Path:
        """The file a unit leaves when it has been through a stage."""
        return self.parts / f"{stage}-{unit:05d}.json"


@dataclass(frozen=True)
class Networks:
    """The autoencoder and the text encoder of a recipe.

    Attributes:
        vae: the autoencoder, with its scaling.
        measured: whether the scaling is measured instead.
        text_encoder: as `dg2_jax.models.coders` describes it.
        size: side of a picture in pixels.
        preview: of the latents, where the model has one.
        pools: whether the model takes a pooled vector of each caption.
    """

    vae: AutoencoderKL
    measured: bool
    text_encoder: dict[str, Any]
    size: int
    preview: dict[str, Any] | None = None
    pools: bool = False

    def load_text_encoder(self) -> PromptEncoder:
        """The text encoder, loaded once per process."""
        return _text_encoder(json.dumps(self.text_encoder, sort_keys=True))


def load_networks(recipe: Recipe) -> Networks:
    """The networks of a recipe; the text encoder is named, not loaded.

    Raises:
        FileNotFoundError: the model or the autoencoder is missing.
        ValueError: it is damaged.
    """
    if recipe.model:
        config = sources.described(recipe.model)
        architecture = ARCHITECTURES[config["model"]]
        denoiser = architecture.parse(config["denoiser"], "denoiser")
        return Networks(
            coders.autoencoder(recipe.model),
            False,
            coders.described_text(recipe.model),
            recipe.size or config.get("default_size", DEFAULT_SIZE),
            config.get("preview"),
            SIZES in architecture.abilities(denoiser),
        )
    own = (Path(recipe.vae) / "vae.json").is_file()
    vae = encoding.load_autoencoder(recipe.vae) if own else from_pretrained(recipe.vae)
    name = recipe.text_encoder
    name = name if name in ("clip", "minilm") else lasting_name(name)
    text = {"name": name, "max_length": recipe.max_length}
    return Networks(vae, own, text, recipe.size or DEFAULT_SIZE)


@functools.cache
def _text_encoder(described: str) -> PromptEncoder:
    """Of a description in JSON; that by name masks padding even where its model attends to it."""
    values = json.loads(described)
    if "name" in values:
        return load_text_encoder(values["name"], values["max_length"])
    return coders.text_encoder(values)


def allowed_sizes(recipe: Recipe, factor: int) -> list[screening.Size]:
    """The sizes that a picture may get."""
    check(recipe.size % factor == 0, "size", f"a multiple of {factor}", recipe.size)
    if recipe.resize_mode == "crop":
        return [(recipe.size, recipe.size)]
    step = recipe.bucket_step
    check(step % factor == 0, "bucket_step", f"a multiple of {factor}", step)
    return screening.buckets(recipe.size, step)


def claim(recipe: Recipe, networks: Networks, source: PictureSource) -> dict[str, Any]:
    """Claims the output folder for a recipe and writes its autoencoder; returns the manifest's
    head.

    Raises:
        ValueError: the folder belongs to another recipe.
    """
    folder = recipe.out
    if folder.exists() and any(folder.iterdir()) and not recipe.parts.exists():
        raise ValueError(f"out: {folder} must be a new folder, or one that prepare began")
    recipe.parts.mkdir(parents=True, exist_ok=True)
    identity = {
        "format": latents.FORMAT,
        "dataset": source.description,
        "model": recipe.model,
        "text_encoder": networks.text_encoder,
        "size": recipe.size,
        "resize_mode": recipe.resize_mode,
        "attributes": {name: list(values) for name, values in source.attributes.items()},
    }
    params = nnx.to_pure_dict(nnx.state(networks.vae))
    with replacing(folder / "vae.safetensors") as weights:
        weights_file.save(weights, params)
        identity["vae_sha256"] = sha256(weights)
        options = ("bucket_step", "min_side", "validation_share", "shard_pictures")
        claimed = identity | {name: getattr(recipe, name) for name in options}
        claimed["pictures"] = hashlib.sha256(source.fingerprint().encode()).hexdigest()
        path = recipe.parts / "recipe.json"
        if not path.exists():
            write_json(path, claimed)
        recorded = read_json(path)
        different = [key for key in claimed if recorded.get(key) != claimed[key]]
        if different:
            raise ValueError(
                f"out: {folder} exists and differs in {', '.join(different)}; "
                "remove it or name another folder"
            )
    return identity


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote; raises ValueError if it is damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged; remove it and run again: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON data atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    with replacing(path) as partial:
        # A file's name may hold bytes that are not UTF-8, which Python shows as surrogates; JSON
        # writes them with backslashes.
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
