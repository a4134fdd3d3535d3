"""The TFDS builder of `dg2_scenes` and its reader; neither needs TensorFlow.

Build with `python -m dg2_jax.scripts.make_scenes --data_dir=DIR`; read with `load("train", DIR)`.
"""

import dataclasses
import functools
import io
import multiprocessing
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from dg2_jax.data.scenes.attributes import SEASONS, SUBJECTS, TIMES, WEATHERS
from dg2_jax.data.scenes.captions import captions
from dg2_jax.data.scenes.render import VERSION, render
from dg2_jax.data.scenes.render import contact_sheet as lay_out
from dg2_jax.data.scenes.sampling import SPLITS, draw_scene, picture_seed
from dg2_jax.files import replacing

IMAGE_SIZE = 256
NUM_CAPTIONS = 5


@dataclasses.dataclass
class ScenesConfig(tfds.core.BuilderConfig):
    """The data set's sizes.

    Attributes:
      train: number of pictures in this split.
      validation: likewise.
      test: likewise.
      heldout: likewise.
      seed: at least 0; every picture's own seed derives from it.
      image_size: height and width of the pictures, at least 16.
    """

    train: int = 40_000
    validation: int = 500
    test: int = 1_000
    heldout: int = 500
    seed: int = 0
    image_size: int = IMAGE_SIZE


def make_example(index: int, split: str, seed: int, png: bytes) -> dict[str, Any]:
    """Picture `index` of a split, as the features of `DG2Scenes` before their encoding."""
    scene = draw_scene(index, split, seed)
    own_seed = picture_seed(index, split, seed)
    return {
        "image": io.BytesIO(png),
        "captions": [caption.text for caption in captions(scene, own_seed, NUM_CAPTIONS)],
        **scene._asdict(),
        "id": index,
        "seed": own_seed,
    }


def render_png(index: int, split: str, seed: int, size: int, folder: Path) -> bytes:
    """The PNG file of picture `index` of a split: from the folder, or rendered and put there."""
    path = folder / split / f"{index:07d}.png"
    if path.exists():
        return path.read_bytes()
    scene, own_seed = draw_scene(index, split, seed), picture_seed(index, split, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        # Fast rather than a tenth smaller.
        Image.fromarray(render(scene, own_seed, size)).save(partial, "PNG", compress_level=1)
    return path.read_bytes()


class DG2Scenes(tfds.core.GeneratorBasedBuilder):
    """Illustrated landscapes, square, with four attributes and five captions each.

    Pictures are ordered by id: `source[i]["id"] == i`. The version is the renderer's, so that
    pictures of two renderers never mix.
    """

    name = "dg2_scenes"
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = (
        ScenesConfig(name="full", description="42,000 pictures of 256 x 256, to train on."),
        ScenesConfig(
            name="tiny",
            description="For tests.",
            train=64,
            validation=16,
            test=16,
            heldout=16,
            image_size=128,
        ),
    )

    # Nothing is downloaded. To look for checksums, TFDS 4.9 would import importlib_resources, which
    # it does not require.
    url_infos = None

    def __init__(self, *, num_workers: int | None = None, **kwargs: Any):
        """Creates a builder; `num_workers` processes render (default: one per CPU).

        The pictures do not depend on it. `kwargs` are those of `tfds.core.DatasetBuilder`
        (data_dir, config); the files are array records, which are read without TensorFlow.

        Raises:
          ValueError: num_workers is below 1.
        """
        kwargs["config"] = _config(kwargs.get("config") or "full")
        num_workers = os.cpu_count() or 1 if num_workers is None else num_workers
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1; got {num_workers}")
        self._num_workers = num_workers
        super().__init__(**{"file_format": "array_record", **kwargs})
        # Keeps the pictures until the data set is complete, so that a build can be interrupted.
        # While it builds, TFDS sets data_path to another folder.
        self.rendered = Path(f"{self.data_path}.rendered")

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.image_size
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                "captions": tfds.features.Sequence(tfds.features.Text(), length=NUM_CAPTIONS),
                "subject": tfds.features.ClassLabel(names=SUBJECTS),
                "time": tfds.features.ClassLabel(names=TIMES),
                "weather": tfds.features.ClassLabel(names=WEATHERS),
                "season": tfds.features.ClassLabel(names=SEASONS),
                "id": tfds.features.Scalar(np.int64),
                "seed": tfds.features.Scalar(np.int64),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, description=self.__doc__, features=features, disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        make = functools.partial(
            render_png,
            split=split,
            seed=config.seed,
            size=config.image_size,
            folder=self.rendered,
        )
        count = getattr(config, split)
        images = _ordered_map(make, count, self._num_workers)
        for index, png in enumerate(tqdm(images, desc=split, total=count, unit=" pictures")):
            yield index, make_example(index, split, config.seed, png)


def _ordered_map(function, size: int, num_workers: int) -> Iterator:
    """Yields function(0) ... function(size - 1) in order, computed by `num_workers` processes."""
    if num_workers == 1:
        yield from map(function, range(size))
        return
    # Spawned, not forked: the caller may have started the threads of JAX.
    with multiprocessing.get_context("spawn").Pool(num_workers) as pool:
        yield from pool.imap(function, range(size), chunksize=8)


def build(
    data_dir: str | Path, config: str | ScenesConfig = "full", num_workers: int | None = None
) -> DG2Scenes:
    """Builds the data set under `data_dir`; what is already there is kept.

    Run again after an interruption, it renders only what is missing.

    Args:
      data_dir: the folder that gets `dg2_scenes/<config>/<version>/`.
      config: `full`, `tiny`, `full` with another number of training pictures, such as
        `train12000` (the other splits in proportion), or sizes of your own under another name.
      num_workers: how many processes render; one per CPU by default.
    """
    builder = _builder(data_dir, config, num_workers)
    tfds.disable_progress_bar()  # the builder shows its own bar, which knows the total
    builder.download_and_prepare()
    shutil.rmtree(builder.rendered, ignore_errors=True)
    return builder


def load(
    split: str, data_dir: str | Path, config: str | ScenesConfig = "full"
) -> Sequence[dict[str, Any]]:
    """Opens a split that has been built, for random access.

    Args:
      split: train, validation, test or heldout; TFDS slices ("train[:100]") are allowed.
      data_dir: the folder given to `build`.
      config: the one given to `build`.

    Returns:
      A data source. Each element is a dict: image (uint8 (256, 256, 3) if full), captions (5 byte
      strings, UTF-8), subject, time, weather and season (indices into the tuples of `attributes`),
      id, seed.

    Raises:
      FileNotFoundError: the data set has not been built there.
      ValueError: split or config is unknown.
    """
    if split.partition("[")[0] not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    builder = _builder(data_dir, config)
    if not builder.is_prepared():
        raise FileNotFoundError(
            f"data_dir: no data set {builder.info.full_name} in {data_dir}; build it with: "
            f"python -m dg2_jax.scripts.make_scenes --data_dir={data_dir} "
            f"--config={builder.builder_config.name}"
        )
    return builder.as_data_source(split)


def _config(config: str | ScenesConfig) -> str | ScenesConfig:
    known = [c.name for c in DG2Scenes.BUILDER_CONFIGS]
    if isinstance(config, ScenesConfig) or config in known:
        return config
    if number := re.fullmatch(r"train([1-9]\d*)", config):
        train, full = int(number[1]), ScenesConfig(name="full")
        others = ("validation", "test", "heldout")
        sizes = {split: max(16, getattr(full, split) * train // full.train) for split in others}
        return ScenesConfig(name=config, train=train, **sizes)
    raise ValueError(f"config must be one of {', '.join(known)}, train<number>; got {config!r}")


def _builder(
    data_dir: str | Path, config: str | ScenesConfig, num_workers: int | None = None
) -> DG2Scenes:
    path = Path(data_dir).expanduser()
    return DG2Scenes(data_dir=path, config=config, num_workers=num_workers)


def contact_sheet(source: Sequence[dict[str, Any]], columns: int = 16, rows: int = 10):
    """The first pictures of a data source, side by side, as a PIL image; black after the last."""
    shown = [source[i]["image"] for i in range(min(len(source), columns * rows))]
    blank = np.zeros_like(shown[0])
    shown += [blank] * (columns * rows - len(shown))
    return Image.fromarray(lay_out(shown, columns))
