"""Previews and stops, which are the same by either transport."""

import numpy as np
import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.pipeline import Pipeline
from tests.generation.conftest import SIZE


@pytest.fixture(params=["poll", "callback"])
def watched(request, pipe):
    return Pipeline(pipe.model, pipe.text_encoder, preview_transport=request.param)


@pytest.mark.parametrize("mode", ["linear", "vae"])
def test_previews_come_in_order_and_end_at_the_picture(pipe, watched, mode):
    seen = []
    options = {"num_images": 3, "num_inference_steps": 7}
    result = watched(
        "a lake", on_preview=seen.append, preview_every=2, preview_mode=mode, **options
    )
    assert [p.step for p in seen] == [2, 4, 6, 7]
    assert all(p.num_steps == 7 and p.first_image == 0 for p in seen)
    side = SIZE if mode == "vae" else pipe.model.latent_shape[0]
    assert all(p.images.shape == (3, side, side, 3) for p in seen)
    if mode == "vae":
        # The last estimate is the picture itself.
        assert np.abs(seen[-1].images.astype(int) - result.images.astype(int)).max() <= 1
    unseen = pipe("a lake", **options)
    np.testing.assert_array_equal(unseen.images, result.images)


@pytest.mark.parametrize("mode", ["linear", "vae"])
def test_both_transports_show_the_same(pipe, mode):
    """Each preview is drawn when it comes: the next may have taken its place afterwards."""
    shown = {}
    for transport in ("poll", "callback"):
        pipeline = Pipeline(pipe.model, pipe.text_encoder, preview_transport=transport)
        frames = shown[transport] = []
        pipeline(
            "a lake", num_images=2, num_inference_steps=5, seed=3, solver="heun", preview_every=1,
            preview_mode=mode, on_preview=lambda p, to=frames: to.append((p.step, p.images)),
        )  # fmt: skip
    assert len(shown["poll"]) == len(shown["callback"]) == 5
    for (step, poll), (same_step, called) in zip(*shown.values(), strict=True):
        assert step == same_step
        assert np.abs(poll.astype(int) - called.astype(int)).max() <= 1
    changes = [np.abs(np.diff(f.astype(int), axis=0)).max() for _, f in shown["poll"]]
    assert min(changes) > 0


def test_a_stop_ends_within_one_step(watched):
    seen = []

    def stop_at_three(shown):
        seen.append(shown.step)
        return shown.step == 3

    result = watched(
        "a lake", num_images=3, num_inference_steps=50, on_preview=stop_at_three, preview_every=1
    )
    assert seen == [1, 2, 3]
    assert result.stopped
    assert result.images.shape == (0, SIZE, SIZE, 3)
    assert result.seeds == ()
    assert not watched("a lake", num_inference_steps=1).stopped


def test_a_stop_in_the_second_batch_keeps_the_first(watched):
    result = watched(
        "a lake", num_images=17, num_inference_steps=2, preview_every=1,
        on_preview=lambda shown: shown.first_image == 16,
    )  # fmt: skip
    assert result.stopped
    assert len(result.images) == len(result.latents) == len(result.seeds) == 16


def test_an_error_in_a_watcher_reaches_the_caller(watched):
    def fail(shown):
        raise RuntimeError("the window is gone")

    with pytest.raises(RuntimeError, match="the window is gone"):
        watched("a lake", num_inference_steps=3, on_preview=fail)
    assert len(watched("a lake", num_inference_steps=3).images) == 1


def test_the_transport_is_checked_and_kept(pipe):
    with pytest.raises(ParameterError, match="preview_transport must be one of poll, callback"):
        Pipeline(pipe.model, pipe.text_encoder, preview_transport="post")
    callback = Pipeline(pipe.model, pipe.text_encoder, preview_transport="callback")
    assert callback.quantized("bfloat16").preview_transport == "callback"
