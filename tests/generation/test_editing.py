"""Editing on a small untrained model: img2img, in-painting, out-painting, inversion."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from dg2_jax.generation import coder
from dg2_jax.pictures import image_input, images, masks
from dg2_jax.pipeline import Pipeline

SIZE = 32  # of the small model's pictures


def encoded(pipe, picture):
    model = pipe.model
    return np.asarray(coder.encode(model.autoencoder, model.autoencoder_params, picture[None]))


def round_trip(pipe, picture):
    model = pipe.model
    latents = encoded(pipe, picture)
    return np.asarray(coder.decode(model.autoencoder, model.autoencoder_params, latents))[0]


@pytest.mark.parametrize("mode", ["partial", "full"])
def test_strength_0_is_the_round_trip_and_1_is_txt2img(pipe, picture, mode):
    none = pipe("a lake", image=picture, strength=0.0, strength_mode=mode, num_inference_steps=4)
    np.testing.assert_array_equal(none.images[0], round_trip(pipe, picture))
    full = pipe("a lake", image=picture, strength=1.0, strength_mode=mode, num_inference_steps=4)
    plain = pipe("a lake", num_inference_steps=4)
    np.testing.assert_allclose(full.latents, plain.latents, atol=1e-5)


@pytest.mark.parametrize("inversion", ["ddim", "ddpm"])
def test_strength_0_is_the_round_trip_with_an_inversion_too(pipe, picture, inversion):
    none = pipe("a lake", image=picture, strength=0.0, inversion=inversion, num_inference_steps=4)
    np.testing.assert_array_equal(none.images[0], round_trip(pipe, picture))


def test_strength_moves_away_from_the_picture(pipe, picture):
    far = []
    for strength in (0.0, 0.25, 0.5, 1.0):
        latents = pipe("a lake", image=picture, strength=strength, num_inference_steps=8).latents
        far.append(float(np.abs(latents - encoded(pipe, picture)).mean()))
    assert far[0] == 0.0
    assert far == sorted(far)


def test_pictures_of_other_shapes_and_kinds_are_fitted(pipe, picture, tmp_path):
    tall = np.concatenate([picture, picture[::-1], picture])
    path = tmp_path / "tall.png"
    Image.fromarray(tall).save(path)
    for mode in ("crop", "pad"):
        fitted = image_input.load_image(tall, SIZE, SIZE, mode)
        for source in (path, str(path), path.read_bytes(), Image.open(path), tall):
            result = pipe("", image=source, resize_mode=mode, strength=0.0)
            np.testing.assert_array_equal(result.images[0], round_trip(pipe, fitted))


def test_outside_the_mask_nothing_changes(pipe, picture, mask):
    result = pipe(
        "a lake", image=picture, mask=mask, strength=1.0, mask_feather=2.0, num_inference_steps=4
    )
    changed = np.abs(result.images[0].astype(int) - picture).max(-1)
    assert changed[: SIZE // 2 - 8].max() == 0
    assert changed[:, : SIZE // 2 - 8].max() == 0
    assert changed[SIZE // 2 :, SIZE // 2 :].max() > 10


def test_a_mask_of_one_value_frees_all_cells_for_that_part_of_the_steps(pipe, picture):
    """Near black keeps cells to the end; grey keeps them for the first steps, white for none."""
    options = {"image": picture, "strength": 1.0, "num_inference_steps": 4, "solver": "ddim"}
    whole = np.ones((SIZE, SIZE), np.float32)
    kept, grey, free = (pipe("a lake", mask=v * whole, **options).latents for v in (5e-4, 0.3, 1))
    np.testing.assert_allclose(kept, encoded(pipe, picture), atol=1e-5)
    np.testing.assert_allclose(free, pipe("a lake", num_inference_steps=4, solver="ddim").latents)
    distances = [np.abs(latents - kept).mean() for latents in (grey, free)]
    assert 0.0 < distances[0] < distances[1]


def test_resampling_repeats_every_step_but_the_last(pipe, picture, mask):
    """Ten rows for four steps, as seen in the previews; kept cells stay."""
    options = {"image": picture, "mask": mask, "strength": 1.0, "num_inference_steps": 4}
    plain = pipe("a lake", solver="ddim", **options)
    resampled = pipe("a lake", solver="ddim", num_resamples=3, **options)
    original = encoded(pipe, picture)
    np.testing.assert_allclose(resampled.latents[0, 0], original[0, 0], atol=1e-5)
    assert np.abs(resampled.latents - plain.latents)[0, -1, -1].max() > 1e-3
    seen = []
    options |= {"on_preview": lambda shown: seen.append(shown.step), "preview_every": 1}
    pipe("a lake", solver="ddim", num_resamples=3, **options)
    assert seen == [1, 2, 3, 4, 4]  # after 2, 4, 6, 8 and all 10 rows


def test_outpainting_keeps_the_inner_picture(pipe, picture):
    """Pixel by pixel beyond the feather; the border is new."""
    border, feather = (8, 0, 8, 0), 3
    result = pipe(
        "a lake", image=picture, outpaint=border, strength=1.0, mask_feather=float(feather),
        num_inference_steps=3,
    )  # fmt: skip
    canvas, new = masks.outpaint_canvas(picture, border, SIZE, SIZE)
    inner = slice(8 + feather, SIZE - 8 - feather)
    np.testing.assert_array_equal(result.images[0][:, inner], canvas[:, inner])
    assert np.abs(result.images[0].astype(int) - canvas)[new > 0].max() > 10


@pytest.fixture(scope="module")
def calm(pipe):
    """The pipeline with a tenth of the network's output: inversion of DDIM needs small slopes."""

    def tenth(params):
        last = jax.tree.map(lambda a: 0.1 * a, params["conv_out"])
        return {**params, "conv_out": last}

    model = dataclasses.replace(pipe.model, params=pipe.model.params.mapped(tenth))
    return Pipeline(model, pipe.text_encoder)


@pytest.mark.parametrize("inversion", ["ddim", "ddpm"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inversion_with_the_source_prompt_returns_the_picture(calm, picture, inversion, strength):
    options = {
        "image": picture, "inversion": inversion, "source_prompt": "a meadow",
        "strength": strength, "num_inference_steps": 8, "spacing": "linspace",
    }  # fmt: skip
    original = encoded(calm, picture)
    result = calm("a meadow", guidance_scale=1.0, **options)
    np.testing.assert_allclose(result.latents, original, atol=2e-3)
    other = calm("a volcano", guidance_scale=3.0, **options)
    assert np.abs(other.latents - original).max() > 1e-2


def test_edits_compose_with_batches_and_seeds(pipe, picture, mask):
    options = {"image": picture, "mask": mask, "strength": 0.8, "num_inference_steps": 5}
    together = pipe("a lake", num_images=3, seed=5, **options)
    alone = pipe("a lake", seed=7, **options)
    np.testing.assert_allclose(alone.latents[0], together.latents[2], atol=1e-5)
    listed = pipe("a lake", num_images=2, seed=[7, 5], **options)
    np.testing.assert_allclose(listed.latents, together.latents[[2, 0]], atol=1e-5)


@pytest.mark.parametrize("inversion", ["ddim", "ddpm"])
def test_inversions_of_a_batch_are_those_of_its_images(pipe, picture, inversion):
    options = {
        "image": picture, "inversion": inversion, "source_prompt": "a meadow", "strength": 0.6,
        "num_inference_steps": 4,
    }  # fmt: skip
    together = pipe(["a lake", "a hill"], seed=5, **options)
    alone = pipe("a hill", seed=6, **options)
    np.testing.assert_allclose(alone.latents[0], together.latents[1], atol=1e-4)


def test_settings_of_edits_are_kept(pipe, picture, tmp_path):
    result = pipe("a lake", image=picture, strength=0.4, num_inference_steps=3)
    read = images.read_metadata(result.save(tmp_path)[0])
    assert read["strength"] == 0.4
    assert len(read["image_digest"]) == 64
