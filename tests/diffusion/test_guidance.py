"""Guidance as algebra: what each transform must equal for denoisers that are known functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import denoiser, guidance, prediction
from dg2_jax.diffusion.denoiser import Denoiser, Level, stateless
from dg2_jax.diffusion.guidance import Guidance

LEVEL = Level(jnp.int32(500), jnp.float32(0.6), jnp.float32(0.8))


@stateless
def linear(x, level, conditioning):
    """x0 = level.alpha x + conditioning, so that each branch can be told apart."""
    return level.over_latents()[0] * x + conditioning[:, None, None, None]


@stateless
def images(x, level, conditioning):
    """The estimate is the conditioning, an image; x has no part in it."""
    return conditioning


def guidance_of(w, **numbers):
    """`Guidance` of scale w, neutral except for the given numbers."""
    w = jnp.asarray(w, jnp.float32)
    neutral = {
        "rescale": jnp.zeros_like(w),
        "eta_parallel": jnp.ones_like(w),
        "norm_threshold": jnp.full_like(w, jnp.inf),
        "momentum": jnp.zeros_like(w),
        "prompt_weights": jnp.ones((len(w), 1)),
        "interval": jnp.tile(jnp.array([0.0, 1.0]), (len(w), 1)),
        "autoguidance_scale": jnp.ones_like(w),
    }
    given = {
        name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), neutral[name].shape)
        if name == "interval"
        else jnp.asarray(value, jnp.float32)
        for name, value in numbers.items()
    }
    return Guidance(w, **{**neutral, **given})


def estimate(denoise, x, conditioning, level=LEVEL):
    return denoise.apply(x, level, conditioning, denoise.init(x))[0]


def inputs(batch=3):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch, 4, 4, 2)), jnp.float32)
    return x, jnp.arange(1.0, batch + 1), -jnp.arange(1.0, batch + 1)


def random_images(count, seed=1):
    values = np.random.default_rng(seed).normal(size=(count, 4, 4, 2))
    return jnp.asarray(values, jnp.float32)


def test_classifier_free_is_the_affine_combination():
    x, c, u = inputs()
    w = jnp.array([1.0, 3.0, 7.5])
    got = estimate(guidance.classifier_free(linear, w), x, guidance.pair(c, u))
    expected = 0.6 * x + (u + w * (c - u))[:, None, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(got[0], estimate(linear, x, c)[0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_guidance_commutes_with_the_prediction_type(kind):
    """Combining x0 estimates equals converting the combined outputs."""
    x, c, u = inputs()

    def network(x, t, conditioning):
        return jnp.sin(x) * conditioning[:, None, None, None] + t[:, None, None, None] / 1000.0

    denoise = denoiser.of_network(network, kind)
    got = estimate(guidance.classifier_free(denoise, jnp.full(3, 4.0)), x, guidance.pair(c, u))
    t = jnp.full(3, 500)
    out = network(x, t, u) + 4.0 * (network(x, t, c) - network(x, t, u))
    expected = prediction.to_x0(kind, x, out, 0.6, 0.8)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


def test_rescale_restores_the_conditional_deviation():
    c, u = random_images(3), random_images(3, 2)
    paired, w = guidance.pair(c, u), jnp.full(3, 6.0)
    full = estimate(guidance.adaptive_projected(images, guidance_of(w, rescale=[1] * 3)), c, paired)
    np.testing.assert_allclose(full.std(axis=(1, 2, 3)), c.std(axis=(1, 2, 3)), rtol=1e-4)
    plain = estimate(guidance.classifier_free(images, w), c, paired)
    assert (plain.std(axis=(1, 2, 3)) > 2.0 * c.std(axis=(1, 2, 3))).all()
    direction = full / plain  # the same picture, of another contrast
    np.testing.assert_allclose(direction, direction[:, :1, :1, :1] + 0 * direction, rtol=1e-3)


def test_interval_guides_inside_and_skips_the_second_branch_outside():
    x, c, u = inputs()
    batches = []

    @stateless
    def counting(x, level, conditioning):
        jax.debug.callback(lambda n=x.shape[0]: batches.append(n))
        return linear.apply(x, level, conditioning, ())[0]

    numbers = guidance_of(jnp.full(3, 5.0), interval=[0.2, 0.7])
    guided = guidance.adaptive_projected(counting, numbers)
    both = guidance.within_interval(guided, counting, numbers)
    run = jax.jit(lambda level: both.apply(x, level, guidance.pair(c, u), both.init(x))[0])
    outside = run(LEVEL)
    jax.effects_barrier()
    assert batches == [3]
    np.testing.assert_allclose(outside, estimate(linear, x, c), rtol=1e-6)
    for sigma, count in ((0.2, 6), (0.5, 6), (0.7, 6), (0.19, 3), (0.71, 3)):
        batches.clear()
        level = LEVEL._replace(sigma=jnp.float32(sigma))
        got = run(level)
        jax.effects_barrier()
        assert batches == [count]
        if count == 6:
            expected = estimate(guided, x, guidance.pair(c, u), level)
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def numpy_apg(c, u, memory, w, eta, threshold, beta):
    """One image of algorithm 1 of arXiv 2410.02416, in float64 and in the paper's own order."""
    memory = (c - u) + beta * memory
    d = memory * min(1.0, threshold / np.linalg.norm(memory))
    unit = c / np.linalg.norm(c)
    parallel = np.sum(d * unit) * unit
    return c + (w - 1.0) * ((d - parallel) + eta * parallel), memory


def apg(w, eta, threshold, beta, **numbers):
    numbers |= {"eta_parallel": eta, "norm_threshold": threshold, "momentum": beta}
    return guidance.adaptive_projected(images, guidance_of(w, **numbers))


def test_adaptive_projected_follows_the_algorithm_over_three_steps():
    w, eta, threshold, beta = [1.0, 4.0, 9.0], [0.0, 0.3, 1.0], [2.5, 4.0, 1e6], [-0.5, 0.5, 0.0]
    guided = apg(w, eta, threshold, beta)
    x = random_images(3)
    memory, expected_momentum = guided.init(x), np.zeros(x.shape)
    for seed in range(3):
        c, u = random_images(3, 10 + seed), random_images(3, 20 + seed)
        got, memory = guided.apply(x, LEVEL, guidance.pair(c, u), memory)
        for i in range(3):
            c64, u64 = np.asarray(c[i], np.float64), np.asarray(u[i], np.float64)
            expected, expected_momentum[i] = numpy_apg(
                c64, u64, expected_momentum[i], w[i], eta[i], threshold[i], beta[i]
            )
            np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-4)
    momentum, inner = memory
    np.testing.assert_allclose(momentum, expected_momentum, atol=1e-5)
    assert inner == ()


def test_adaptive_projected_with_neutral_values_is_classifier_free():
    x, c, u = random_images(3), random_images(3, 2), random_images(3, 3)
    w, phi, paired = jnp.array([1.0, 3.0, 7.5]), jnp.array([0.0, 0.5, 1.0]), guidance.pair(c, u)
    plain = estimate(guidance.classifier_free(images, w), x, paired)
    neutral = guidance.adaptive_projected(images, guidance_of(w))
    np.testing.assert_allclose(estimate(neutral, x, paired), plain, atol=1e-5)
    rescaled = guidance.adaptive_projected(images, guidance_of(w, rescale=phi))
    expected = guidance.rescale(plain, c, phi)
    np.testing.assert_allclose(estimate(rescaled, x, paired), expected, atol=1e-5)


def test_adaptive_projected_adds_only_what_is_orthogonal_and_within_the_threshold():
    x, c, u = random_images(3), random_images(3, 2), random_images(3, 3)
    guided = apg(np.full(3, 6.0), np.zeros(3), np.full(3, 2.0), np.zeros(3))
    update = np.asarray(estimate(guided, x, guidance.pair(c, u)) - c, np.float64)
    np.testing.assert_allclose((update * np.asarray(c)).sum((1, 2, 3)), 0.0, atol=1e-3)
    norms = np.sqrt((update**2).sum((1, 2, 3)))
    assert (norms <= (6.0 - 1.0) * 2.0 * (1 + 1e-5)).all()
    assert norms.min() > 1.0


def test_adaptive_projected_has_gradients_where_there_is_no_direction():
    x, c = random_images(2), random_images(2, 2)

    @jax.jit
    def total(u, eta, threshold, beta):
        return estimate(apg(jnp.full(2, 5.0), eta, threshold, beta), x, guidance.pair(c, u)).sum()

    for values in ((1.0, jnp.inf, 0.0), (0.0, 2.0, -0.5)):
        gradient = jax.grad(total)(c, *(jnp.full(2, value) for value in values))
        assert np.isfinite(gradient).all()


def test_momentum_is_carried_through_a_scan():
    """With c - u = 1 and β = -1/2 the momentum is the partial geometric sum."""
    x = random_images(2)
    guided = apg(np.full(2, 2.0), np.ones(2), np.full(2, np.inf), np.full(2, -0.5))
    paired = guidance.pair(jnp.ones_like(x), jnp.zeros_like(x))
    _, estimates = jax.lax.scan(
        lambda memory, _: guided.apply(x, LEVEL, paired, memory)[::-1], guided.init(x), length=5
    )
    sums = np.cumsum((-0.5) ** np.arange(5))
    np.testing.assert_allclose(estimates[:, 0, 0, 0, 0], 1.0 + sums, rtol=1e-6)


@pytest.mark.parametrize("transform", ["classifier_free", "adaptive_projected", "autoguided"])
def test_the_memory_of_the_denoiser_inside_goes_on(transform):
    """It counts its calls, one number per latent, so each branch must see its own."""
    counting = Denoiser(
        lambda x: jnp.zeros(len(x)),
        lambda x, level, conditioning, calls: (x + conditioning[:, None, None, None], calls + 1.0),
    )
    x, c, u = inputs(2)
    w = jnp.array([2.0, 3.0])
    guided, conditioning, branches = {
        "classifier_free": (guidance.classifier_free(counting, w), guidance.pair(c, u), 2),
        "adaptive_projected": (
            guidance.adaptive_projected(counting, guidance_of(w)), guidance.pair(c, u), 2,
        ),
        "autoguided": (guidance.autoguided(counting, counting, w), (c, u), 1),
    }[transform]  # fmt: skip
    memory = guided.init(x)
    for _ in range(3):
        _, memory = guided.apply(x, LEVEL, conditioning, memory)
    counts = [a for a in jax.tree.leaves(memory) if a.ndim == 1]
    assert counts
    for count in counts:
        np.testing.assert_array_equal(count, np.full(2 * branches, 3.0))


def test_autoguidance_is_the_affine_combination_and_composes_with_classifier_free():
    x, c, u = inputs()
    v, w = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 1.0, 2.5])

    @stateless
    def bad(x, level, conditioning):
        return 0.5 * x - 2.0 * conditioning[:, None, None, None]

    def expected(conditioning, i):
        good, worse = (estimate(d, x, conditioning)[i] for d in (linear, bad))
        return worse + v[i] * (good - worse)

    auto = guidance.autoguided(linear, bad, v)
    got = estimate(auto, x, (c, c))
    np.testing.assert_allclose(got[0], estimate(linear, x, c)[0], rtol=1e-6)
    both = estimate(guidance.classifier_free(auto, w), x, guidance.pair((c, c), (u, u)))
    for i in range(3):
        np.testing.assert_allclose(got[i], expected(c, i), rtol=1e-5, atol=1e-6)
        total = expected(u, i) + w[i] * (expected(c, i) - expected(u, i))
        np.testing.assert_allclose(both[i], total, rtol=1e-5, atol=1e-5)


def composed(conditionals, u, w, weights):
    paired = guidance.pair(jnp.concatenate(conditionals), u)
    numbers = guidance_of(w, prompt_weights=weights)
    return estimate(guidance.adaptive_projected(images, numbers), random_images(len(u), 9), paired)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_composed_prompts_are_the_weighted_sum_of_directions(n):
    u, w = random_images(2), jnp.array([1.0, 5.0])
    conditionals = [random_images(2, 2 + i) for i in range(n)]
    weights = np.random.default_rng(0).uniform(-1.0, 2.0, size=(2, n)).astype(np.float32)
    got = composed(conditionals, u, w, weights)
    for i in range(2):
        expected = u[i] + sum(
            w[i] * a * (c[i] - u[i]) for a, c in zip(weights[i], conditionals, strict=True)
        )
        np.testing.assert_allclose(got[i], expected, atol=1e-4)
    order = np.roll(np.arange(n), 1)
    permuted = composed([conditionals[j] for j in order], u, w, weights[:, order])
    np.testing.assert_allclose(permuted, got, atol=1e-4)


def test_a_composed_prompt_of_weight_zero_is_left_out():
    u, c, other = (random_images(2, seed) for seed in range(3))
    w, x = jnp.array([2.0, 5.0]), random_images(2, 9)
    expected = estimate(guidance.classifier_free(images, w), x, guidance.pair(c, u))
    two = composed([c, other], u, w, np.array([[1.0, 0.0]] * 2, np.float32))
    np.testing.assert_allclose(two, expected, atol=1e-5)


def test_interval_keeps_momentum_and_composition_outside_at_scale_one():
    u, c, other = (random_images(2, seed) for seed in range(3))
    weights = jnp.array([[1.0, 0.4], [0.7, 0.5]])
    numbers = guidance_of(
        np.full(2, 5.0), norm_threshold=[2.0] * 2, momentum=[1.0] * 2,
        prompt_weights=weights, interval=[0.2, 0.7],
    )  # fmt: skip
    guided = guidance.adaptive_projected(images, numbers)
    both = guidance.within_interval(guided, images, numbers)
    paired, momentum = guidance.pair(jnp.concatenate([c, other]), u), random_images(2, 7)
    outside, (after, _) = both.apply(u, LEVEL, paired, (momentum, ()))  # LEVEL's σ is 0.8
    np.testing.assert_array_equal(after, momentum)
    np.testing.assert_allclose(outside, composed([c, other], u, jnp.ones(2), weights), atol=1e-5)
    inside = LEVEL._replace(sigma=jnp.float32(0.5))
    got = both.apply(u, inside, paired, (momentum, ()))
    expected = guided.apply(u, inside, paired, (momentum, ()))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_guidance_repeats_with_the_copies_of_an_image():
    numbers = guidance_of([1.0, 2.0], prompt_weights=[[1.0, 0.5], [0.2, 0.1]])
    twice = numbers.repeated(2)
    np.testing.assert_array_equal(twice.scale, [1.0, 2.0, 1.0, 2.0])
    np.testing.assert_array_equal(twice.prompt_weights[2:], numbers.prompt_weights)
    np.testing.assert_array_equal(twice.interval[2:], numbers.interval)


def test_branches_may_lie_anywhere_and_images_without_guidance_need_one():
    """Estimates and momenta are those of `pair`; the second image evaluates its prompt alone."""
    u, c, other, x, momentum = (random_images(3, seed) for seed in range(5))
    weights = jnp.array([[1.0, 0.4], [1.0, 0.0], [0.7, 0.5]])
    numbers = guidance_of(
        [5.0, 1.0, 3.0], rescale=[0.3, 0.0, 0.0], norm_threshold=[2.0, jnp.inf, 1.0],
        momentum=[-0.5, 0.0, 0.7], prompt_weights=weights,
    )  # fmt: skip
    paired = guidance.pair(jnp.concatenate([c, other]), u)
    memory = (momentum.at[1].set(0.0), ())
    expected = guidance.adaptive_projected(images, numbers).apply(x, LEVEL, paired, memory)
    packed = jnp.stack([c[1], u[0], other[0], c[0], c[2], other[2], u[2], c[1]])
    branches = guidance.Branches(
        image=jnp.array([1, 0, 0, 0, 2, 2, 2, 1]),
        prompts=jnp.array([[3, 2], [0, 0], [4, 5]]),
        negative=jnp.array([1, 0, 6]),
    )
    got = guidance.adaptive_projected(images, numbers, branches).apply(x, LEVEL, packed, memory)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-5)
    for i in (0, 2):
        np.testing.assert_allclose(got[1][0][i], expected[1][0][i], atol=1e-5)


def test_levels_and_intervals_of_each_image_act_on_it_alone():
    x, c, u = inputs()
    intervals = [[0.2, 0.7], [0.7, 1.0], [0.0, 0.1]]
    numbers = guidance_of([5.0] * 3, interval=intervals, momentum=[0.5] * 3)
    levels = Level(jnp.array([3, 7, 9]), jnp.array([0.9, 0.6, 0.2]), jnp.array([0.4, 0.8, 0.9]))
    momentum = random_images(3, 7)
    strong = guidance.adaptive_projected(linear, numbers, intervals=True)
    for denoise in (strong, guidance.within_interval(strong, linear, numbers)):
        got, (after, _) = denoise.apply(x, levels, guidance.pair(c, u), (momentum, ()))
        for i in range(3):
            one = jax.tree.map(lambda a, i=i: a[i : i + 1], numbers)
            level = Level(*(a[i] for a in levels))
            alone, (its, _) = guidance.adaptive_projected(linear, one, intervals=True).apply(
                x[i : i + 1], level, guidance.pair(c[i : i + 1], u[i : i + 1]),
                (momentum[i : i + 1], ()),
            )  # fmt: skip
            np.testing.assert_allclose(got[i : i + 1], alone, atol=1e-6)
            np.testing.assert_allclose(after[i : i + 1], its, atol=1e-6)
        np.testing.assert_array_equal(after[2], momentum[2])
        assert not np.allclose(after[1], momentum[1])
