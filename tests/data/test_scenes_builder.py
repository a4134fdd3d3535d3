"""The `dg2_scenes` data set: which scenes each split holds, and a build read back."""

import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from dg2_jax.data.scenes import builder
from dg2_jax.data.scenes.attributes import (
    SEASONS,
    SUBJECTS,
    TIMES,
    WEATHERS,
    Scene,
    is_held_out,
    is_possible,
)
from dg2_jax.data.scenes.captions import captions
from dg2_jax.data.scenes.render import render
from dg2_jax.data.scenes.sampling import MAX_SPLIT_SIZE, SPLITS, draw_scene, picture_seed

SIZES = {"train": 12, "validation": 6, "test": 2, "heldout": 2}
SIDE = 48
CONFIG = builder.ScenesConfig(name="small", image_size=SIDE, **SIZES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small data set built twice, by one and by two processes."""
    paths = [tmp_path_factory.mktemp(f"workers{n}") for n in (1, 2)]
    for num_workers, path in enumerate(paths, start=1):
        builder.build(path, CONFIG, num_workers)
    return paths


def test_attributes_are_drawn_evenly():
    scenes = [draw_scene(i, "train") for i in range(8000)]
    subjects, times, weathers, seasons = (Counter(column) for column in zip(*scenes, strict=True))
    assert set(subjects.values()) == {500}
    assert all(abs(times[t] / 8000 - 0.2) < 0.02 for t in TIMES)
    assert all(weathers[w] / 8000 > 0.15 for w in WEATHERS)
    assert all(seasons[s] / 8000 > 0.2 for s in SEASONS)


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_combinations_are_in_heldout_only(split):
    scenes = [draw_scene(i, split) for i in range(3000)]
    assert all(map(is_possible, scenes))
    assert {is_held_out(scene) for scene in scenes} == {split == "heldout"}
    assert len({scene.subject for scene in scenes}) == len(SUBJECTS)


def test_every_trainable_scene_is_drawn():
    every = (Scene(a, t, w, s) for a in SUBJECTS for t in TIMES for w in WEATHERS for s in SEASONS)
    expected = {scene for scene in every if is_possible(scene) and not is_held_out(scene)}
    assert {draw_scene(i, "train") for i in range(16_000)} == expected


def test_seeds_of_splits_and_data_sets_never_meet():
    ends = sorted(
        (picture_seed(0, split, seed), picture_seed(MAX_SPLIT_SIZE - 1, split, seed))
        for split in SPLITS
        for seed in range(3)
    )
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ends))
    assert draw_scene(7, "train", 0) == draw_scene(7, "train", 0)
    assert [draw_scene(i, "train", 0) for i in range(64)] != [
        draw_scene(i, "train", 1) for i in range(64)
    ]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, "dev", 0), "split"), ((-1, "train", 0), "index"), ((0, "train", -1), "seed")],
)
def test_bad_draws_name_their_argument(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        draw_scene(*arguments)


@pytest.mark.parametrize("split", SPLITS)
def test_what_was_built_is_read_back(folders, split):
    source = builder.load(split, folders[0], CONFIG)
    assert len(source) == SIZES[split]
    for i in (0, len(source) - 1):
        example = source[i]
        scene, seed = draw_scene(i, split), picture_seed(i, split)
        assert (example["id"], example["seed"]) == (i, seed)
        names = (SUBJECTS, TIMES, WEATHERS, SEASONS)
        drawn = zip(names, Scene._fields, strict=True)
        assert Scene(*(values[example[field]] for values, field in drawn)) == scene
        assert [t.decode() for t in example["captions"]] == [c.text for c in captions(scene, seed)]
        np.testing.assert_array_equal(example["image"], render(scene, seed, SIDE))


def test_the_files_do_not_depend_on_the_number_of_workers(folders):
    first, second = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.array_record*")}
        for folder in folders
    )
    assert len(first) == len(SPLITS)
    assert first == second


def test_an_interrupted_build_goes_on_with_what_was_rendered(tmp_path, monkeypatch):
    rendered = []

    def failing_render(scene, seed, size):
        if len(rendered) == 9:
            raise KeyboardInterrupt
        rendered.append(seed)
        return render(scene, seed, size)

    monkeypatch.setattr(builder, "render", failing_render)
    with pytest.raises(KeyboardInterrupt):
        builder.build(tmp_path, CONFIG, num_workers=1)
    before = set(rendered)
    rendered.clear()
    monkeypatch.setattr(builder, "render", lambda *args: rendered.append(args[1]) or render(*args))
    built = builder.build(tmp_path, CONFIG, num_workers=1)
    assert len(before) == 9
    assert len(rendered) == sum(SIZES.values()) - 9
    assert before.isdisjoint(rendered)
    assert not built.rendered.exists()
    source = builder.load("train", tmp_path, CONFIG)
    scene, seed = draw_scene(3, "train"), picture_seed(3, "train")
    np.testing.assert_array_equal(source[3]["image"], render(scene, seed, SIDE))


def test_contact_sheet_shows_the_pictures_in_order(folders):
    source = builder.load("validation", folders[0], CONFIG)
    sheet = np.asarray(builder.contact_sheet(source, columns=4, rows=3))
    assert sheet.shape == (3 * SIDE, 4 * SIDE, 3)
    np.testing.assert_array_equal(sheet[SIDE : 2 * SIDE, SIDE : 2 * SIDE], source[5]["image"])
    assert not sheet[2 * SIDE :].any()  # 6 pictures end in the second of three rows


def test_a_number_of_pictures_is_a_configuration(tmp_path):
    splits = {"train": 4000, "validation": 50, "test": 100, "heldout": 50}
    named = builder.DG2Scenes(data_dir=tmp_path, config="train4000").builder_config
    assert {split: getattr(named, split) for split in SPLITS} == splits
    assert named.image_size == builder.IMAGE_SIZE


def test_a_missing_data_set_names_the_command(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"python -m dg2_jax.scripts.make_scenes --data_dir="
    ):
        builder.load("train", tmp_path, "tiny")
    with pytest.raises(ValueError, match="split must be one of train"):
        builder.load("dev", tmp_path)
    for name in ("huge", "train0", "train-1"):
        with pytest.raises(ValueError, match="config must be one of full, tiny, train<number>"):
            builder.load("train", tmp_path, name)
    with pytest.raises(FileNotFoundError, match="--config=train12000"):
        builder.load("train", tmp_path, "train12000")
    with pytest.raises(ValueError, match="num_workers must be at least 1"):
        builder.build(tmp_path, "tiny", num_workers=0)


def test_import_does_not_need_tensorflow():
    code = "import sys; import dg2_jax.data.scenes.builder; print('tensorflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
