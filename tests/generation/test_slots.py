"""Pictures that share batches look as if made alone, whatever their neighbours are and do."""

import numpy as np
import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.generation import slots as slots_lib
from dg2_jax.generation.slots import Slots
from dg2_jax.pipeline import Pipeline
from tests.sd_models import inpainting

PAIR = (("a lake", "identity"), ("a hill", "rot180"))


def assert_same(found, expected):
    """At most one grey level apart, in at most one of ten thousand values, or a handful."""
    apart = np.abs(found.astype(int) - expected.astype(int))
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= max(4, 1e-4 * apart.size)


@pytest.fixture(scope="module")
def requests(picture, mask):
    """Every solver, few and many steps, all guidance there is, edits and masks."""
    edit = {"image": picture, "num_inference_steps": 20, "seed": 9}
    return [
        {"prompt": "a lake", "num_inference_steps": 50, "num_images": 2},
        {"prompt": "a hill", "num_inference_steps": 4, "guidance_scale": 1.0},
        {"prompt": "fog", "negative_prompt": "sun", "guidance_scale": 7.0, "seed": 2**32 - 1},
        {"prompt": "a lake", "num_inference_steps": 4, "solver": "heun"},
        {"prompt": "snow", "num_inference_steps": 6, "solver": "dpmpp_2m_sde", "seed": 3},
        {"prompt": "snow", "num_inference_steps": 5, "solver": "euler_ancestral"},
        {"prompt": "snow", "num_inference_steps": 6, "solver": "ddpm", "guidance_scale": 1.0},
        {"prompt": "snow", "num_inference_steps": 7, "solver": "unipc", "seed": 4},
        {"prompt": "rain", "num_inference_steps": 9, "guidance_interval": (0.3, 0.8)},
        {"prompt": "rain", "num_inference_steps": 9, "guidance_interval": (0.0, 0.5),
         "solver": "heun", "guidance_rescale": 0.6},
        {"prompt": "a lake AND a hill:0.6 AND snow:-0.2", "num_inference_steps": 5},
        {"prompt": "a lake AND a hill", "num_inference_steps": 5, "guidance_scale": 1.0},
        {"prompt": "sand", "num_inference_steps": 5, "apg_eta": 0.2, "apg_norm_threshold": 3.0,
         "apg_momentum": -0.5, "guidance_scale": 6.0, "guidance_interval": (0.2, 0.95)},
        {"prompt": "(red:1.4) sand", "variation_strength": 0.4, "variation_seed": 8},
        {"prompt": "a hill", **edit, "strength": 0.3},
        {"prompt": "a hill", **edit, "strength": 0.9, "mask": mask, "guidance_scale": 1.0},
        {"prompt": "a hill", **edit, "strength": 1.0, "mask": 1 - mask / 2, "solver": "ddim",
         "eta": 0.5, "num_resamples": 2},
        {"prompt": "a hill", **edit, "strength": 0.5, "strength_mode": "full"},
        {"prompt": "a hill", **edit, "strength": 0.0},
        {"prompt": "a lake", "weights": "raw", "num_inference_steps": 5},
        {"prompt": "a wide lake", "width": 48, "num_inference_steps": 4, "num_images": 2},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def alone(pipe, requests):
    """What each request gives by itself."""
    return [pipe(**request) for request in requests]


@pytest.mark.parametrize("size", [2, 8, 32])
def test_every_mixture_gives_the_pictures_made_alone(pipe, requests, alone, size):
    made = dict(pipe.stream(requests, size=size))
    assert set(made) == set(range(len(requests)))
    pictures = [np.concatenate([r.images.ravel() for r in results])
                for results in ([made[i] for i in range(len(alone))], alone)]  # fmt: skip
    assert_same(*pictures)
    for number, expected in enumerate(alone):
        found = made[number]
        np.testing.assert_allclose(found.latents, expected.latents, atol=2e-4)
        for name in ("seeds", "prompts", "negative_prompts", "settings", "image_digest", "stopped"):
            assert getattr(found, name) == getattr(expected, name)


def test_short_ones_are_finished_first_and_new_ones_enter_meanwhile(pipe):
    steps = [50, 4, 9, 3, 2]
    requests = [{"prompt": "a lake", "num_inference_steps": n} for n in steps]
    order = [number for number, _ in pipe.stream(requests, size=4)]  # two guided ones at once
    assert order == [1, 2, 3, 4, 0]


def test_calls_that_cannot_share_are_made_all_the_same(pipe, picture):
    odd = {"prompt": "", "anagram": PAIR, "num_inference_steps": 3}
    requests = [{"prompt": "a lake"}, odd, {"prompt": "snow", "num_inference_steps": 4}]
    made = dict(pipe.stream(requests))
    for number, request in enumerate(requests):
        assert_same(made[number].images, pipe(**request).images)


def test_why_a_call_is_alone(pipe, picture, folder):
    def reason(**request):
        return slots_lib.why_alone(pipe.begin(**{"prompt": "x", **request}))

    assert reason() is None
    assert reason(image=picture) is None
    assert "anagram" in reason(prompt="", anagram=PAIR)
    assert "inversion" in reason(image=picture, inversion="ddim", num_inference_steps=2)
    assert "reuse_every" in reason(reuse_every=2)
    assert "autoguidance" in reason(autoguidance_model=str(folder), autoguidance_scale=2.0)
    with pytest.raises(ValueError, match="cannot share a batch: reuse_every"):
        Slots().enter(pipe.begin(prompt="x", reuse_every=2), 0)


def test_wrong_requests_are_refused_before_any_picture(pipe):
    with pytest.raises(ParameterError, match="guidance_scale"):
        pipe.stream([{"prompt": "x"}, {"prompt": "x", "guidance_scale": 1e9}])
    with pytest.raises(ParameterError, match="on_preview"):
        pipe.stream([{"prompt": "x", "on_preview": print}])
    with pytest.raises(ValueError, match="size must be one of 1, 2, 4, 8, 16, 32; got 3"):
        pipe.stream([{"prompt": "x"}], size=3)
    assert list(pipe.stream([])) == []


def test_removing_one_leaves_the_others_as_they_are(pipe):
    requests = [{"prompt": f"p{i}", "seed": i, "num_inference_steps": 6} for i in range(3)]
    slots = Slots(8)
    first, second, third = [slots.enter(pipe.begin(**request), 0) for request in requests]
    assert slots.room == 2
    slots.advance(at_most=2)
    slots.remove(second)
    assert slots.room == 4
    finished = []
    while slots.pictures:
        finished += slots.advance()
    assert finished == [first, third]
    for picture, request in ((first, requests[0]), (third, requests[2])):
        assert_same(picture.result().images, pipe(**request).images)
    assert second.rows_done == 2


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
@pytest.mark.parametrize("mode", ["linear", "vae"])
def test_previews_are_those_of_a_call(pipe, solver, mode):
    request = {"prompt": "a lake", "num_inference_steps": 6, "solver": solver}
    expected = {}
    pipe(**request, preview_every=2, preview_mode=mode,
         on_preview=lambda p: expected.update({p.step: p.images}))  # fmt: skip
    slots = Slots(8)
    shown = {}
    watched = slots.enter(pipe.begin(**request), 0, look_every=2)
    slots.enter(pipe.begin(prompt="snow", num_inference_steps=9), 0)
    while watched.rows_left:
        slots.advance(at_most=100)
        if not watched.is_to_be_seen:
            continue
        preview = watched.preview(mode)
        assert (preview.num_steps, preview.first_image) == (6, 0)
        shown[preview.step] = preview.images
    assert set(shown) == set(expected)
    for step, images in shown.items():
        assert_same(images, expected[step])


def test_a_negative_prompt_is_evaluated_only_where_it_acts(pipe, monkeypatch):
    """Two of eight rows are guided, so that the interval costs two branches more than none."""
    sizes = []
    advance = slots_lib.packed.advance

    def counted(program, weights, slots, texts, mixture, rows):
        sizes.append((len(texts), int(rows)))
        return advance(program, weights, slots, texts, mixture, rows)

    monkeypatch.setattr(slots_lib.packed, "advance", counted)
    slots = Slots(2)
    sigma = pipe.begin(prompt="x", num_inference_steps=8).plan.table.sigma[:8]
    low, high = sorted((float(sigma[3]), float(sigma[4])))
    call = pipe.begin(prompt="x", num_inference_steps=8, guidance_interval=(low, high))
    picture = slots.enter(call, 0)
    while slots.pictures:
        slots.advance(at_most=100)
    assert sizes == [(1, 3), (2, 2), (1, 3)]
    assert picture.rows_done == 8


def test_after_an_error_pictures_are_as_they_were(pipe, monkeypatch):
    slots = Slots(8)
    pictures = [slots.enter(pipe.begin(prompt=p, num_inference_steps=5), 0) for p in ("a", "b")]
    slots.advance(at_most=2)
    with monkeypatch.context() as broken:

        def fails(*_):
            raise RuntimeError("RESOURCE_EXHAUSTED")

        broken.setattr(slots_lib.packed, "advance", fails)
        with pytest.raises(RuntimeError):
            slots.advance()
    slots.size = 2  # one of them at a time
    finished = []
    while slots.pictures:
        finished += slots.advance()
    assert set(finished) == set(pictures)
    for picture, prompt in zip(pictures, ("a", "b"), strict=True):
        assert_same(picture.result().images, pipe(prompt, num_inference_steps=5).images)


def test_in_painting_models_share(tmp_path, picture, mask):
    pipe = Pipeline.load(inpainting(tmp_path / "inpainting"))
    edit = {"prompt": "a lake", "image": picture, "num_inference_steps": 3}
    requests = [
        {**edit, "mask": mask},
        {**edit, "mask": 1 - mask, "strength": 0.7, "guidance_scale": 1.0},
        {"prompt": "snow", "num_inference_steps": 4},
    ]
    for number, result in pipe.stream(requests, size=8):
        assert_same(result.images, pipe(**requests[number]).images)
