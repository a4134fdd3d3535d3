"""A data set to train on, from captioned pictures: screened, cropped, encoded, written in shards.

The pictures of a source, in order, are divided into units. Each unit is screened by itself. All
findings together decide what becomes of each picture, and each unit is encoded into its own shards.
A finished unit leaves a receipt in `parts/`, written last and atomically. So a killed run continues
where it stopped, damaged shards are rebuilt, and the result depends on neither processes nor kills.
"""

import dataclasses
import functools
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dg2_jax.checks import check
from dg2_jax.data import encoding, engines, latents, screening
from dg2_jax.data.recipe import (
    Networks,
    Recipe,
    allowed_sizes,
    claim,
    load_networks,
    read_json,
    write_json,
)
from dg2_jax.data.screening import Finding, Kept
from dg2_jax.data.sources import captions
from dg2_jax.data.sources.interface import Picture, PictureSource
from dg2_jax.files import replacing, sha256
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.pictures import image_input, preview

_LOG = logging.getLogger(__name__)

REPORT = "report.json"
HELD_OUT_CAPTIONS = 6  # that sample grids of a training run show
PREVIEW_IMAGES = 256  # that the linear preview is fitted to
_WAIT_SECONDS = 1.0


def prepare(
    recipe: Recipe,
    *,
    engine: str = "local",
    workers: int = 1,
    process_index: int = 0,
    process_count: int = 1,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Builds the data set, or the missing parts of it.

    Of several processes with one `out`, on one host or many, each takes its share of the
    units; the first waits for the others and writes report.json and the manifest.

    Args:
        recipe: what to build.
        engine: where the work of this process runs, one of `engines.ENGINES`.
        workers: number of worker processes.
        process_index: of this process.
        process_count: number of processes.
        progress: show bars.

    Returns:
        The manifest; None in all processes but the first.

    Raises:
        FileNotFoundError: the source, the model or the autoencoder is missing.
        ValueError: one of them is damaged, `out` holds something else, or fewer than two
            pictures can be used; report.json is then there and names the reasons.
    """
    check(
        0 <= process_index < process_count,
        "process_index",
        f"in [0, {process_count})",
        process_index,
    )
    check(workers >= 1, "workers", "at least 1", workers)
    source = recipe.source.open()
    networks = load_networks(recipe)
    recipe = dataclasses.replace(
        recipe, size=networks.size, min_side=recipe.min_side or networks.size // 2
    )
    sizes = allowed_sizes(recipe, networks.vae.downsampling_factor)
    identity = claim(recipe, networks, source)
    units = range(-(-len(source) // recipe.shard_pictures))
    mine = units[process_index::process_count]

    def work(stage: str, make_worker: engines.MakeWorker, todo: Sequence[int]) -> None:
        with tqdm(desc=stage, unit=" pictures", disable=not progress or not todo) as bar:
            for count in engines.run(engine, make_worker, todo, workers):
                bar.update(count)

    todo = [u for u in mine if not recipe.receipt("screen", u).exists()]
    work("screened", functools.partial(Screener, recipe), todo)
    _wait(recipe, "screen", units)
    findings = _findings(recipe, units)
    if process_index == 0:
        _report(recipe, source, findings)
    try:
        kept = screening.choose(findings, sizes, recipe.validation_share)
    except ValueError as error:
        raise ValueError(f"{error}; see {recipe.out / REPORT}") from error
    todo = [u for u in mine if not _encoded(recipe, u)]
    for unit in todo:
        recipe.receipt("encode", unit).unlink(missing_ok=True)
    work("encoded", functools.partial(UnitEncoder, recipe, kept), todo)
    if process_index > 0:
        return None
    _wait(recipe, "encode", units)
    receipts = [read_json(recipe.receipt("encode", u)) for u in units]
    return _finish(recipe, identity, networks, kept, receipts)


class Screener:
    """Screens a unit and writes its findings."""

    def __init__(self, recipe: Recipe):
        self._recipe, self._source = recipe, recipe.source.open()

    def __call__(self, unit: int) -> int:
        """Returns how many pictures it has."""
        recipe = self._recipe
        first = unit * recipe.shard_pictures
        indices = range(first, min(first + recipe.shard_pictures, len(self._source)))
        findings = [vars(screening.screen(self._source, i, recipe.min_side)) for i in indices]
        write_json(recipe.receipt("screen", unit), findings)
        return len(findings)


class UnitEncoder:
    """Encodes the kept pictures of a unit into shards, one per split and size."""

    def __init__(self, recipe: Recipe, kept: Sequence[Kept]):
        self._recipe, self._source = recipe, recipe.source.open()
        self._units: dict[int, list[Kept]] = {}
        for k in kept:
            self._units.setdefault(k.index // recipe.shard_pictures, []).append(k)
        networks = load_networks(recipe)
        self._vae = networks.vae
        text, names = networks.load_text_encoder(), list(self._source.attributes)
        self._encoder = encoding.Encoder(self._vae, text, names, networks.pools)

    def __call__(self, unit: int) -> int:
        """Returns how many of its pictures are kept."""
        kept = self._units.get(unit, [])
        statistics = encoding.Statistics(self._vae.config.latent_channels)
        shards = []
        for split, size in sorted({(k.split, k.size) for k in kept}):
            chosen = [k for k in kept if (k.split, k.size) == (split, size)]
            name = f"{split}-{size[0]}x{size[1]}-{unit:05d}.array_record"
            path = self._recipe.out / name
            measured = statistics if split == "train" else None
            with replacing(path) as partial:
                latents.write_split(partial, self._records(chosen, size, measured))
            shards.append(
                {
                    "file": name,
                    "split": split,
                    "size": list(size),
                    "count": len(chosen),
                    "sha256": sha256(path),
                }
            )
        receipt = {"shards": shards, "statistics": statistics.to_dict()}
        write_json(self._recipe.receipt("encode", unit), receipt)
        return len(kept)

    def _records(
        self, kept: Sequence[Kept], size: screening.Size, statistics: encoding.Statistics | None
    ) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(kept), encoding.CHUNK):
            chosen = kept[start : start + encoding.CHUNK]
            pictures = [self._source[k.index] for k in chosen]
            for record in self._encoder.records(
                [_pixels(picture, size) for picture in pictures],
                [
                    captions.without_repeats(
                        (*p.captions, *(c for i in k.copies for c in self._source[i].captions))
                    )
                    for k, p in zip(chosen, pictures, strict=True)
                ],
                [p.attributes for p in pictures],
            ):
                if statistics is not None:
                    statistics.add(record["mean"], record["logvar"])
                yield record


def _pixels(picture: Picture, size: screening.Size) -> np.ndarray:
    height, width = size
    return image_input.load_image(picture.image, width, height, formats=image_input.DATA_FORMATS)


def _findings(recipe: Recipe, units: Iterable[int]) -> list[Finding]:
    """The findings of all units, duplicates marked."""
    lines = (line for u in units for line in read_json(recipe.receipt("screen", u)))
    return screening.without_duplicates(Finding(**line) for line in lines)


def _report(recipe: Recipe, source: PictureSource, findings: Sequence[Finding]) -> None:
    """Writes report.json: which pictures are left out and why, and which files are not pictures."""
    problems = [{"name": f.name, "problem": f.problem} for f in findings if f.problem is not None]
    report = {
        "pictures": len(findings),
        "kept": len(findings) - len(problems),
        "problems": problems,
        "ignored_files": dict(sorted(source.ignored.items())),
    }
    write_json(recipe.out / REPORT, report)


def _encoded(recipe: Recipe, unit: int) -> bool:
    """Whether a unit has been encoded and its shards are intact."""
    receipt = recipe.receipt("encode", unit)
    if not receipt.exists():
        return False
    shards = read_json(receipt)["shards"]
    return all(
        (path := recipe.out / shard["file"]).is_file() and sha256(path) == shard["sha256"]
        for shard in shards
    )


def _wait(recipe: Recipe, stage: str, units: Sequence[int]) -> None:
    """Waits until all units have been through a stage, here or in other processes."""
    while missing := [u for u in units if not recipe.receipt(stage, u).exists()]:
        _LOG.info("%s: waiting for %d of %d units", stage, len(missing), len(units))
        time.sleep(_WAIT_SECONDS)


def _finish(
    recipe: Recipe,
    identity: dict[str, Any],
    networks: Networks,
    kept: Sequence[Kept],
    receipts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Writes vae.json and the manifest."""
    folder, config = recipe.out, networks.vae.config
    statistics = encoding.Statistics(config.latent_channels)
    for receipt in receipts:
        statistics.add_dict(receipt["statistics"])
    mean, std = statistics.channels()
    if networks.measured:
        shift, spread = statistics.overall()
        config = dataclasses.replace(config, scaling_factor=1.0 / spread, shift_factor=shift)
    write_json(folder / "vae.json", config.to_dict())
    shards = [shard for receipt in receipts for shard in receipt["shards"]]
    manifest = identity | {
        "context_dim": networks.load_text_encoder().context_dim,
        "splits": dict(sorted(Counter(k.split for k in kept).items())),
        "shards": sorted(shards, key=lambda shard: shard["file"]),
        "latent_mean": mean.tolist(),
        "latent_std": std.tolist(),
        "scaling_factor": config.scaling_factor,
        "shift_factor": config.shift_factor,
    }
    manifest["preview"] = (
        networks.preview or _linear_preview(recipe, manifest["shards"], kept, config).to_dict()
    )
    source = recipe.source.open()
    held_out = [k.index for k in kept if k.split == "validation"][:HELD_OUT_CAPTIONS]
    manifest["held_out_captions"] = [source[i].captions[0] for i in held_out]
    write_json(folder / "manifest.json", manifest)
    for left in (*folder.glob(".*"), *recipe.parts.glob(".*")):
        left.unlink(missing_ok=True)  # what killed processes were writing
    return manifest


def _linear_preview(
    recipe: Recipe,
    shards: Sequence[Mapping[str, Any]],
    kept: Sequence[Kept],
    config: AutoencoderConfig,
) -> preview.LatentToRGB:
    """The map from scaled latents to colours, fitted to pictures of the commonest size."""
    size, _ = Counter(k.size for k in kept if k.split == "train").most_common(1)[0]
    records = latents.sources(recipe.out, shards, "train")[size]
    chosen = [k.index for k in kept if (k.split, k.size) == ("train", size)][:PREVIEW_IMAGES]
    source = recipe.source.open()
    images = [_pixels(source[i], size) for i in chosen]
    mean = np.stack([records[i]["mean"] for i in range(len(chosen))]).astype(np.float64)
    return preview.fit_latent_to_rgb(config.scaling.scale(mean), np.stack(images))


def summary(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The data set's figures, how many pictures are left out, and the report that names them."""
    shown = ("dataset", "splits", "size", "scaling_factor", "shift_factor")
    path = folder / REPORT
    left_out = len(json.loads(path.read_text("utf-8"))["problems"])
    return {key: manifest[key] for key in shown} | {"left_out": left_out, "report": str(path)}
