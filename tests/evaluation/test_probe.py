"""The probe sees what renders show; its shares are those counted by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.evaluation import probe
from dg2_jax.evaluation.cases import ATTRIBUTES, renders
from dg2_jax.evaluation.probe import AttributeProbe, Probe, ProbeConfig, Seen
from dg2_jax.evaluation.probe_loss import augment, probe_loss
from dg2_jax.nn.modules import split
from tests.networks import random_network

TINY = ProbeConfig(channels=(16, 32), norm_groups=4)


def logs(values, size):
    return np.log(np.eye(size)[values] * 0.9 + 0.1 / size).astype(np.float32)


def test_shares_counted_by_hand():
    seen = Seen(
        {
            "subject": logs([0, 1, 2, 3], 16),
            "time": logs([0, 0, 1, 1], 5),
            "weather": logs([4, 4, 4, 4], 5),
        },
        np.zeros((4, 2)),
    )
    expected = {
        "subject": np.array([0, 1, 2, 9]),  # three right
        "time": np.array([0, -1, 0, 1]),  # three asked, two right
        "weather": np.array([-1, -1, -1, -1]),  # none asked
    }
    shares = seen.accuracy(expected)
    assert shares["subject"] == pytest.approx(3 / 4)
    assert shares["time"] == pytest.approx(2 / 3)
    assert np.isnan(shares["weather"])
    assert shares["joint"] == pytest.approx(2 / 4)
    with pytest.raises(ValueError, match="expected must have attributes of subject, time, weather"):
        seen.accuracy({"colour": np.zeros(4, int)})


def test_the_shipped_probe_on_renders_it_never_saw():
    drawn = renders("heldout", 96, seed=7)
    images, expected = drawn.images, drawn.shown
    seen = Probe.load()(images)
    shares = seen.accuracy(expected)
    assert shares["subject"] > 0.93
    assert shares["time"] > 0.93
    assert shares["weather"] > 0.93
    for name, values in ATTRIBUTES.items():
        actual = seen.log_probabilities[name]
        assert actual.shape == (96, len(values))
        np.testing.assert_allclose(np.exp(actual).sum(-1), 1, atol=1e-5)
    # Alone and in a batch the same is seen.
    np.testing.assert_allclose(
        Probe.load()(images[70:71]).features[0], seen.features[70], atol=1e-4
    )


def test_pictures_of_twice_the_size_are_seen_through_their_means():
    config = dataclasses.replace(TINY, image_size=16)
    network = random_network(lambda rngs: AttributeProbe(config, rngs=rngs))
    large = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    small = large.reshape(2, 16, 2, 16, 2, 3).mean((2, 4))
    np.testing.assert_allclose(
        network.features(jnp.asarray(large)), network.features(jnp.asarray(small)), atol=1e-5
    )


def test_through_files(tmp_path):
    network, params = split(random_network(lambda rngs: AttributeProbe(TINY, rngs=rngs)))
    probe.save(tmp_path, TINY, params)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    saved, kept = Probe.load(tmp_path)(images), Probe(network, params)(images)
    np.testing.assert_allclose(saved.features, kept.features, atol=0.02)  # bfloat16
    (tmp_path / "probe.json").write_text('{"patch": 4}')
    with pytest.raises(ValueError, match=r"unknown key .*probe\.json\.patch"):
        Probe.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no probe in .*probe\.json"):
        Probe.load(tmp_path / "none")


def test_augmented_pictures_are_near_and_differ():
    pixels = jnp.linspace(-1, 1, 4 * 32 * 32 * 3).reshape(4, 32, 32, 3)
    actual = augment(pixels, jax.random.key(0))
    assert actual.shape == pixels.shape
    assert len({float(x) for x in actual[:, 0, 0, 0]}) == 4
    flat = augment(jnp.full((8, 16, 16, 3), 0.25), jax.random.key(1))
    np.testing.assert_allclose(flat.mean((1, 2, 3)), 0.25, atol=0.02)  # but for the noise


def test_loss_of_a_probe_that_knows_nothing():
    """Zero heads give log(number of values) for each attribute."""
    network = random_network(lambda rngs: AttributeProbe(TINY, rngs=rngs))
    for head in network.heads.values():
        head.kernel[...], head.bias[...] = head.kernel[...] * 0.0, head.bias[...] * 0.0
    labels = {name: jnp.zeros(4, jnp.int32) for name in ATTRIBUTES}
    pixels = jnp.zeros((4, 32, 32, 3))
    loss, metrics = probe_loss(network, pixels, labels, jax.random.key(0))
    assert float(loss) == pytest.approx(np.log([16, 5, 5]).sum(), rel=1e-5)
    assert float(metrics["joint_accuracy"]) == 1.0  # the first of equals is the first value
