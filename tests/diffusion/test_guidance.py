"""Guidance as algebra: what each transform must equal for denoisers that are known functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion import guidance
from dg2_jax.diffusion.guidance import Level

LEVEL = Level(jnp.int32(500), jnp.float32(0.6), jnp.float32(0.8))


def linear_denoiser(x, level, conditioning):
    """x0 = level.alpha x + conditioning, so that each branch can be told apart."""
    return level.alpha * x + conditioning[:, None, None, None]


def inputs(batch=3):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch, 4, 4, 2)), jnp.float32)
    return x, jnp.arange(1.0, batch + 1), -jnp.arange(1.0, batch + 1)


def test_classifier_free_is_the_affine_combination():
    x, c, u = inputs()
    w = jnp.array([1.0, 3.0, 7.5])
    got = guidance.classifier_free(linear_denoiser, w)(x, LEVEL, guidance.pair(c, u))
    expected = 0.6 * x + (u + w * (c - u))[:, None, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(got[0], linear_denoiser(x, LEVEL, c)[0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_guidance_commutes_with_the_prediction_type(kind):
    """Combining x0 estimates equals converting the combined outputs."""
    x, c, u = inputs()

    def network(x, t, conditioning):
        return jnp.sin(x) * conditioning[:, None, None, None] + t[:, None, None, None] / 1000.0

    w = jnp.full(3, 4.0)
    denoise = guidance.denoiser(network, kind)
    got = guidance.classifier_free(denoise, w)(x, LEVEL, guidance.pair(c, u))
    t = jnp.full(3, 500)
    out = network(x, t, u) + 4.0 * (network(x, t, c) - network(x, t, u))
    expected = guidance.prediction.to_x0(kind, x, out, 0.6, 0.8)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


def test_rescale_restores_the_conditional_deviation():
    x, c, u = inputs()

    def denoise(x, level, conditioning):
        return x * conditioning[:, None, None, None]

    w = jnp.full(3, 6.0)
    full = guidance.classifier_free(denoise, w, jnp.ones(3))(x, LEVEL, guidance.pair(c, u))
    conditional = denoise(x, LEVEL, c)
    np.testing.assert_allclose(full.std(axis=(1, 2, 3)), conditional.std(axis=(1, 2, 3)), rtol=1e-4)
    none = guidance.classifier_free(denoise, w, jnp.zeros(3))(x, LEVEL, guidance.pair(c, u))
    plain = guidance.classifier_free(denoise, w)(x, LEVEL, guidance.pair(c, u))
    np.testing.assert_allclose(none, plain, rtol=1e-6)


def test_interval_guides_inside_and_skips_the_second_branch_outside():
    x, c, u = inputs()
    batches = []

    def counting(x, level, conditioning):
        jax.debug.callback(lambda n=x.shape[0]: batches.append(n))
        return linear_denoiser(x, level, conditioning)

    guided = guidance.classifier_free(counting, jnp.full(3, 5.0))
    both = guidance.within_interval(guided, counting, (jnp.float32(0.2), jnp.float32(0.7)))
    run = jax.jit(both)
    outside = run(x, LEVEL, guidance.pair(c, u))
    jax.effects_barrier()
    assert batches == [3]
    np.testing.assert_allclose(outside, linear_denoiser(x, LEVEL, c), rtol=1e-6)
    inside = LEVEL._replace(sigma=jnp.float32(0.5))
    np.testing.assert_allclose(
        run(x, inside, guidance.pair(c, u)), guided(x, inside, guidance.pair(c, u)), rtol=1e-6
    )


def numpy_apg(c, u, memory, w, eta, threshold, beta):
    """One image of algorithm 1 of arXiv 2410.02416, in float64 and in the paper's own order."""
    memory = (c - u) + beta * memory
    d = memory * min(1.0, threshold / np.linalg.norm(memory))
    unit = c / np.linalg.norm(c)
    parallel = np.sum(d * unit) * unit
    return c + (w - 1.0) * ((d - parallel) + eta * parallel), memory


def images_denoiser(x, level, conditioning):
    """The estimate is the conditioning, an image; x has no part in it."""
    return conditioning


def random_images(count, seed=1):
    images = np.random.default_rng(seed).normal(size=(count, 4, 4, 2))
    return jnp.asarray(images, jnp.float32)


def apg(w, eta, threshold, beta, **options):
    arrays = {"eta_parallel": eta, "norm_threshold": threshold, "momentum": beta}
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()}
    w = jnp.asarray(w, jnp.float32)
    return guidance.adaptive_projected(images_denoiser, w, **arrays, **options)


def test_adaptive_projected_follows_the_algorithm_over_three_steps():
    w, eta, threshold, beta = [1.0, 4.0, 9.0], [0.0, 0.3, 1.0], [2.5, 4.0, 1e6], [-0.5, 0.5, 0.0]
    guided = apg(w, eta, threshold, beta)
    x = random_images(3)
    memory, expected_memory = guided.start(x), np.zeros(x.shape)
    for seed in range(3):
        c, u = random_images(3, 10 + seed), random_images(3, 20 + seed)
        got, memory = guided.step(x, LEVEL, guidance.pair(c, u), memory)
        for i in range(3):
            c64, u64 = np.asarray(c[i], np.float64), np.asarray(u[i], np.float64)
            expected, expected_memory[i] = numpy_apg(
                c64, u64, expected_memory[i], w[i], eta[i], threshold[i], beta[i]
            )
            np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(memory, expected_memory, atol=1e-5)


def test_adaptive_projected_with_neutral_values_is_classifier_free():
    x, c, u = random_images(3), random_images(3, 2), random_images(3, 3)
    w, phi, paired = jnp.array([1.0, 3.0, 7.5]), jnp.array([0.0, 0.5, 1.0]), guidance.pair(c, u)
    neutral = apg(w, np.ones(3), np.full(3, np.inf), np.zeros(3), guidance_rescale=phi)
    got, _ = neutral.step(x, LEVEL, paired, neutral.start(x))
    expected = guidance.classifier_free(images_denoiser, w, phi)(x, LEVEL, paired)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_adaptive_projected_adds_only_what_is_orthogonal_and_within_the_threshold():
    x, c, u = random_images(3), random_images(3, 2), random_images(3, 3)
    guided = apg(np.full(3, 6.0), np.zeros(3), np.full(3, 2.0), np.zeros(3))
    got, _ = guided.step(x, LEVEL, guidance.pair(c, u), guided.start(x))
    update = np.asarray(got - c, np.float64)
    np.testing.assert_allclose((update * np.asarray(c)).sum((1, 2, 3)), 0.0, atol=1e-3)
    norms = np.sqrt((update**2).sum((1, 2, 3)))
    assert (norms <= (6.0 - 1.0) * 2.0 * (1 + 1e-5)).all()
    assert norms.min() > 1.0


def test_adaptive_projected_compiles_once_and_has_gradients_where_there_is_no_direction():
    x, c = random_images(2), random_images(2, 2)

    @jax.jit
    def run(c, u, eta, threshold, beta):
        guided = apg(jnp.full(2, 5.0), eta, threshold, beta)
        return guided.step(x, LEVEL, guidance.pair(c, u), guided.start(x))[0]

    for values in ((1.0, jnp.inf, 0.0), (0.0, 2.0, -0.5)):
        arrays = [jnp.full(2, value) for value in values]
        gradient = jax.grad(lambda u, arrays=arrays: run(c, u, *arrays).sum())(c)
        assert np.isfinite(gradient).all()
        run(c, c, *arrays)
    assert run._cache_size() == 1


def test_memory_is_carried_through_a_scan_and_starts_empty_for_plain_denoisers():
    """With c - u = 1 and β = -1/2 the momentum is the partial geometric sum."""
    x = random_images(2)
    ones, zeros = jnp.ones_like(x), jnp.zeros_like(x)
    guided = apg(np.full(2, 2.0), np.ones(2), np.full(2, np.inf), np.full(2, -0.5))
    paired = guidance.pair(ones, zeros)
    _, estimates = jax.lax.scan(
        lambda memory, _: guided.step(x, LEVEL, paired, memory)[::-1],
        guided.start(x),
        length=5,
    )
    sums = np.cumsum((-0.5) ** np.arange(5))
    np.testing.assert_allclose(estimates[:, 0, 0, 0, 0], 1.0 + sums, rtol=1e-6)

    plain = guidance.recurrent(images_denoiser)
    assert plain.start(x) == ()
    x0, memory = plain.step(x, LEVEL, ones, ())
    assert memory == ()
    np.testing.assert_array_equal(x0, ones)
    assert guidance.recurrent(guided) is guided


def test_around_applies_a_transform_to_either_kind_of_denoiser():
    def doubled(denoise):
        return lambda x, level, conditioning: 2.0 * denoise(x + 1.0, level, conditioning)

    x, c, _ = inputs()
    got = guidance.around(doubled, linear_denoiser)(x, LEVEL, c)
    np.testing.assert_allclose(got, 2.0 * linear_denoiser(x + 1.0, LEVEL, c))
    paired = guidance.pair(random_images(3, 2), random_images(3, 3))
    guided = apg(np.full(3, 4.0), np.zeros(3), np.full(3, 3.0), np.full(3, -0.5))
    memory = random_images(3, 4)
    x0, after = guidance.around(doubled, guided).step(x, LEVEL, paired, memory)
    expected, expected_after = guided.step(x + 1.0, LEVEL, paired, memory)
    np.testing.assert_allclose(x0, 2.0 * expected)
    np.testing.assert_array_equal(after, expected_after)


def test_autoguidance_is_the_affine_combination_and_composes_with_classifier_free():
    x, c, u = inputs()
    v, w = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 1.0, 2.5])

    def bad(x, level, conditioning):
        return 0.5 * x - 2.0 * conditioning[:, None, None, None]

    def expected(conditioning, i):
        good, worse = (d(x, LEVEL, conditioning)[i] for d in (linear_denoiser, bad))
        return worse + v[i] * (good - worse)

    auto = guidance.autoguided(linear_denoiser, bad, v)
    got = auto(x, LEVEL, (c, c))
    np.testing.assert_allclose(got[0], linear_denoiser(x, LEVEL, c)[0], rtol=1e-6)
    both = guidance.classifier_free(auto, w)(x, LEVEL, guidance.pair((c, c), (u, u)))
    for i in range(3):
        np.testing.assert_allclose(got[i], expected(c, i), rtol=1e-5, atol=1e-6)
        total = expected(u, i) + w[i] * (expected(c, i) - expected(u, i))
        np.testing.assert_allclose(both[i], total, rtol=1e-5, atol=1e-5)


def composed(conditionals, u, w, weights):
    paired = guidance.pair(jnp.concatenate(conditionals), u)
    x = random_images(len(u), 9)
    guided = guidance.classifier_free(images_denoiser, w, prompt_weights=jnp.asarray(weights))
    return guided(x, LEVEL, paired)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
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


def test_one_composed_prompt_of_weight_one_is_classifier_free_and_weight_zero_leaves_out():
    u, c, other = (random_images(2, seed) for seed in range(3))
    w, x = jnp.array([2.0, 5.0]), random_images(2, 9)
    expected = guidance.classifier_free(images_denoiser, w)(x, LEVEL, guidance.pair(c, u))
    one = composed([c], u, w, np.ones((2, 1), np.float32))
    np.testing.assert_allclose(one, expected, atol=1e-5)
    two = composed([c, other], u, w, np.array([[1.0, 0.0]] * 2, np.float32))
    np.testing.assert_allclose(two, expected, atol=1e-5)


def test_adaptive_projected_composes_prompts_as_classifier_free_does():
    u, c, other = (random_images(2, seed) for seed in range(3))
    w, weights = jnp.array([2.0, 5.0]), jnp.array([[1.0, 0.4], [0.7, -0.5]])
    neutral = apg(w, np.ones(2), np.full(2, np.inf), np.zeros(2), prompt_weights=weights)
    paired = guidance.pair(jnp.concatenate([c, other]), u)
    got, _ = neutral.step(u, LEVEL, paired, neutral.start(u))
    np.testing.assert_allclose(got, composed([c, other], u, w, weights), atol=1e-5)


def test_interval_keeps_memory_and_composition_outside_at_scale_one():
    u, c, other = (random_images(2, seed) for seed in range(3))
    weights = jnp.array([[1.0, 0.4], [0.7, 0.5]])
    guided = apg(np.full(2, 5.0), np.ones(2), np.full(2, 2.0), np.ones(2), prompt_weights=weights)
    interval = (jnp.float32(0.2), jnp.float32(0.7))
    both = guidance.within_interval(guided, images_denoiser, interval, prompt_weights=weights)
    paired, memory = guidance.pair(jnp.concatenate([c, other]), u), random_images(2, 7)
    outside, after = both.step(u, LEVEL, paired, memory)  # LEVEL's σ is 0.8
    np.testing.assert_array_equal(after, memory)
    np.testing.assert_allclose(outside, composed([c, other], u, jnp.ones(2), weights), atol=1e-5)
    inside = LEVEL._replace(sigma=jnp.float32(0.5))
    got = both.step(u, inside, paired, memory)
    expected = guided.step(u, inside, paired, memory)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
