"""A data set of TensorFlow Datasets, by name, read without TensorFlow."""

import bisect
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets

import dg2_jax.data.scenes.builder  # noqa: F401, registers dg2_scenes
from dg2_jax.data.sources import captions
from dg2_jax.data.sources.interface import Picture


class TfdsPictures:
    """The train and validation splits of a data set; see `PictureSource`.

    Every class label of the data set is an attribute.
    """

    ignored: Mapping[str, int] = {}

    def __init__(
        self, name: str, data_dir: str | Path | None, image_key: str = "", caption_key: str = ""
    ):
        """Opens a data set that is already built.

        Args:
            name: "mnist", or with a configuration "dg2_scenes/full".
            data_dir: where it was built; None for the default of TFDS.
            image_key: the feature of the picture; empty where there is only one.
            caption_key: the feature of the captions: a text or a sequence of texts.

        Raises:
            FileNotFoundError: it has not been built there.
            ValueError: it has no such features, or was not written as array records.
        """
        where = None if data_dir is None else Path(data_dir).expanduser()
        try:
            builder = tensorflow_datasets.builder(name, data_dir=where)
        except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
            raise FileNotFoundError(f"source: TFDS has no data set {name!r} in {where}") from error
        if not builder.is_prepared():
            raise FileNotFoundError(
                f"source: {builder.info.full_name} has not been built in {builder.data_path}"
            )
        features = builder.info.features
        classes = tensorflow_datasets.features
        images = [k for k, f in features.items() if isinstance(f, classes.Image)]
        labels = {k: f for k, f in features.items() if isinstance(f, classes.ClassLabel)}
        self._image = _one(image_key, images, "image_key", name)
        usual = [k for k in captions.KEYS if k in features]
        self._captions = _one(
            caption_key, list(features) if caption_key else usual[:1], "caption_key", name
        )
        self.attributes: Mapping[str, tuple[str, ...]] = {
            key: tuple(feature.names) for key, feature in labels.items()
        }
        self.description = builder.info.full_name
        self._splits = [s for s in ("train", "validation") if s in builder.info.splits]
        try:
            self._sources = [builder.as_data_source(split) for split in self._splits]
        except NotImplementedError as error:
            raise ValueError(
                f"source: {builder.info.full_name} must be built as array records "
                '(file_format="array_record")'
            ) from error
        self._ends = list(itertools.accumulate(len(source) for source in self._sources))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Picture:
        split, row = self._place(index)
        example: Mapping[str, Any] = self._sources[split][row]
        return Picture(
            self.name(index),
            example[self._image],
            captions.checked(example[self._captions]),
            {key: int(example[key]) for key in self.attributes},
            self._splits[split],
        )

    def name(self, index: int) -> str:
        """Of the picture at `index`."""
        split, row = self._place(index)
        return f"{self._splits[split]}/{row}"

    def fingerprint(self) -> str:
        """Changes when the files do."""
        return f"{self.description} {self._splits} {self._ends}"

    def _place(self, index: int) -> tuple[int, int]:
        split = bisect.bisect_right(self._ends, index)
        return split, index - (self._ends[split - 1] if split else 0)


def _one(key: str, possible: list[str], parameter: str, name: str) -> str:
    if key and key in possible:
        return key
    if key or len(possible) != 1:
        raise ValueError(
            f"{parameter} must be a feature of tfds:{name} that fits"
            + (f", one of {', '.join(possible)}" if possible else "; none of the usual name does")
            + f"; got {key!r}"
        )
    return possible[0]
