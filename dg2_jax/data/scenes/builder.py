"""The TFDS builder of `dg2_scenes`, its reader, and nothing that needs TensorFlow.

Build with `python -m scripts.make_scenes --data_dir=DIR`; read with `load("train", DIR)`.
"""

import dataclasses
import functools
import io
import multiprocessing
import os
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

IMAGE_SIZE = 128
NUM_CAPTIONS = 5


@dataclasses.dataclass
class ScenesConfig(tfds.core.BuilderConfig):
    """How many pictures each split holds, and the seed (at least 0) that they all derive from."""

    train: int = 12_000
    validation: int = 500
    test: int = 1_000
    heldout: int = 500
    seed: int = 0


def make_example(index: int, split: str, seed: int) -> dict[str, Any]:
    """Renders picture `index` of a split, as the features of `DG2Scenes` before their encoding."""
    scene = draw_scene(index, split, seed)
    own_seed = picture_seed(index, split, seed)
    png = io.BytesIO()
    pixels = render(scene, own_seed, IMAGE_SIZE)
    Image.fromarray(pixels).save(png, "PNG", compress_level=1)  # speed before the last 10% of size
    png.seek(0)
    return {
        "image": png,
        "captions": [caption.text for caption in captions(scene, own_seed, NUM_CAPTIONS)],
        **scene._asdict(),
        "id": index,
        "seed": own_seed,
    }


class DG2Scenes(tfds.core.GeneratorBasedBuilder):
    """Illustrated landscapes, 128 x 128, with four attributes and five captions each.

    The order is that of the ids: `source[i]["id"] == i`. Its version is the renderer's, so that
    pictures of two renderers never mix.
    """

    name = "dg2_scenes"
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = (
        ScenesConfig(name="full", description="14,000 pictures, to train on."),
        ScenesConfig(
            name="tiny", description="For tests.", train=64, validation=16, test=16, heldout=16
        ),
    )

    # Nothing is downloaded; and where TFDS 4.9 looks for checksums it imports importlib_resources,
    # which it does not require.
    url_infos = None

    def __init__(self, *, num_workers: int | None = None, **kwargs: Any):
        """Makes a builder; `num_workers` processes render (default: one a CPU).

        The pictures do not depend on it. `kwargs` are those of `tfds.core.DatasetBuilder`
        (data_dir, config); the files are array records, which are read without TensorFlow.

        Raises:
          ValueError: num_workers is below 1.
        """
        num_workers = os.cpu_count() or 1 if num_workers is None else num_workers
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1; got {num_workers}")
        self._num_workers = num_workers
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(IMAGE_SIZE, IMAGE_SIZE, 3), encoding_format="png"
                ),
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
        make = functools.partial(make_example, split=split, seed=config.seed)
        size = getattr(config, split)
        examples = _ordered_map(make, size, self._num_workers)
        yield from enumerate(tqdm(examples, desc=split, total=size, unit=" pictures"))


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

    Args:
      data_dir: the folder that gets `dg2_scenes/<config>/<version>/`.
      config: `full`, `tiny`, or sizes of your own under another name.
      num_workers: how many processes render; one a CPU by default.
    """
    builder = _builder(data_dir, config, num_workers)
    tfds.disable_progress_bar()  # the builder shows its own, which knows the total
    builder.download_and_prepare()
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
      A data source. Each element is a dict: image (uint8 (128, 128, 3)), captions (5 byte strings,
      UTF-8), subject, time, weather and season (indices into the tuples of `attributes`), id, seed.

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
            f"python -m scripts.make_scenes --data_dir={data_dir} "
            f"--config={builder.builder_config.name}"
        )
    return builder.as_data_source(split)


def _builder(
    data_dir: str | Path, config: str | ScenesConfig, num_workers: int | None = None
) -> DG2Scenes:
    known = [c.name for c in DG2Scenes.BUILDER_CONFIGS]
    if isinstance(config, str) and config not in known:
        raise ValueError(f"config must be one of {', '.join(known)}; got {config!r}")
    path = Path(data_dir).expanduser()
    return DG2Scenes(data_dir=path, config=config, num_workers=num_workers)


def contact_sheet(source: Sequence[dict[str, Any]], columns: int = 16, rows: int = 10):
    """The first pictures of a data source, side by side, as a PIL image; black behind the last."""
    shown = [source[i]["image"] for i in range(min(len(source), columns * rows))]
    blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    shown += [blank] * (columns * rows - len(shown))
    return Image.fromarray(lay_out(shown, columns))
