"""The whole UNet against its definition, written out in NumPy and float64 from the papers.

Ronneberger et al. (arXiv 1505.04597): blocks down and up, joined by skips. Ho et al. (2006.11239):
residual blocks that the time shifts and scales. Vaswani et al. (1706.03762): attention.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.models.weights_file import flatten
from dg2_jax.nn.unet import UNet, UNetConfig
from tests.networks import random_network

HEAD, GROUPS, EMBED, TEXT = 8, 4, 12, 6
CASES = {
    "two levels": {"channels": (8, 16), "attention_levels": (False, True)},
    "three levels, two blocks per level": {
        "channels": (8, 16, 24),
        "attention_levels": (True, False, True),
        "blocks_per_level": 2,
    },
}


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


class Definition:
    """The UNet of one picture. `p` holds the parameters by their dotted names."""

    def __init__(self, network):
        self.config = network.config
        params = flatten(nnx.to_pure_dict(nnx.state(network)))
        self.p = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}

    def linear(self, name, x):
        return x @ self.p[f"{name}.kernel"] + self.p.get(f"{name}.bias", 0.0)

    def conv(self, name, x, stride=1, before=1):
        """A 3x3 convolution; `before` zeros go in front of the first row and column."""
        kernel = self.p[f"{name}.kernel"]
        x = np.pad(x, ((before, 1), (before, 1), (0, 0)))
        rows, columns = (n - 2 for n in x.shape[:2])
        taps = [
            x[i : i + rows : stride, j : j + columns : stride] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        ]
        return sum(taps) + self.p[f"{name}.bias"]

    def group_norm(self, name, x):
        h, w, c = x.shape
        x = x.reshape(h, w, GROUPS, c // GROUPS)
        mean, variance = x.mean((0, 1, 3), keepdims=True), x.var((0, 1, 3), keepdims=True)
        x = ((x - mean) / np.sqrt(variance + 1e-5)).reshape(h, w, c)
        return x * self.p[f"{name}.scale"] + self.p[f"{name}.bias"]

    def layer_norm(self, name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.p[f"{name}.scale"] + self.p[f"{name}.bias"]

    def attention(self, q, k, v):
        out = []
        for first in range(0, q.shape[1], HEAD):
            head = slice(first, first + HEAD)
            logits = q[:, head] @ k[:, head].T / np.sqrt(HEAD)
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            out.append(weights / weights.sum(-1, keepdims=True) @ v[:, head])
        return np.concatenate(out, -1)

    def block(self, name, x, embedding, text):
        h = self.conv(f"{name}.residual.conv1", silu(self.group_norm(f"{name}.residual.norm1", x)))
        scale, shift = np.split(self.linear(f"{name}.residual.embed", embedding), 2)
        h = silu(self.group_norm(f"{name}.residual.norm2", h) * (1 + scale) + shift)
        h = self.conv(f"{name}.residual.conv2", h)
        skip = f"{name}.residual.skip"
        x = h + (
            x if x.shape == h.shape else x @ self.p[f"{skip}.kernel"][0, 0] + self.p[f"{skip}.bias"]
        )
        if f"{name}.transformer.qkv.kernel" not in self.p:
            return x
        name, shape = f"{name}.transformer", x.shape
        x = x.reshape(-1, shape[-1])
        qkv = np.split(self.linear(f"{name}.qkv", self.layer_norm(f"{name}.norm1", x)), 3, -1)
        x = x + self.linear(f"{name}.attended", self.attention(*qkv))
        q = self.linear(f"{name}.cross_q", self.layer_norm(f"{name}.norm2", x))
        k, v = np.split(self.linear(f"{name}.cross_kv", text), 2, -1)
        x = x + self.linear(f"{name}.crossed", self.attention(q, k, v))
        hidden = self.linear(f"{name}.feed_forward.inner", self.layer_norm(f"{name}.norm3", x))
        value, gate = np.split(hidden, 2, -1)
        x = x + self.linear(f"{name}.feed_forward.outer", value * gelu(gate))
        return x.reshape(shape)

    def __call__(self, x, t, text):
        """`x` (h, w, c), the timestep, and the real tokens (l, d)."""
        frequency = 10_000.0 ** (-np.arange(EMBED // 2) / (EMBED // 2))
        time = np.concatenate([np.cos(t * frequency), np.sin(t * frequency)])
        time = self.linear("time2", silu(self.linear("time1", time)))
        embedding = silu(time + self.linear("pooled", text.mean(0)))
        levels, per_level = len(self.config.channels), self.config.blocks_per_level

        h = self.conv("conv_in", x)
        skips = [h]
        for level in range(levels):
            for i in range(level * per_level, (level + 1) * per_level):
                h = self.block(f"down.{i}", h, embedding, text)
                skips.append(h)
            if level < levels - 1:
                # Stride 2, with the one row and column of zeros behind the last.
                h = self.conv(f"downsample.{level}", h, stride=2, before=0)
                skips.append(h)
        for i in range(2):
            h = self.block(f"middle.{i}", h, embedding, text)
        for level in range(levels):  # the deepest first
            for i in range(level * (per_level + 1), (level + 1) * (per_level + 1)):
                h = np.concatenate([h, skips.pop()], -1)
                h = self.block(f"up.{i}", h, embedding, text)
            if level < levels - 1:
                h = self.conv(f"upsample.{level}", h.repeat(2, 0).repeat(2, 1))
        assert not skips
        return self.conv("conv_out", silu(self.group_norm("norm_out", h)))


@pytest.mark.parametrize("case", CASES)
def test_the_network_is_its_definition(case):
    config = UNetConfig(
        in_channels=3, head_dim=HEAD, context_dim=TEXT, embed_dim=EMBED, norm_groups=GROUPS,
        **CASES[case],
    )  # fmt: skip
    network = random_network(lambda rngs: UNet(config, rngs=rngs))
    rng = np.random.default_rng(1)
    x, text = rng.normal(size=(2, 8, 12, 3)), rng.normal(size=(2, 5, TEXT))
    lengths, t = (3, 5), (17, 802)
    mask = jnp.arange(5)[None, :] < jnp.array(lengths)[:, None]
    predict = nnx.jit(lambda network, x, t, *text: network(x, t, network.project_context(*text)))
    single = (jnp.asarray(a, jnp.float32) for a in (x, text))
    output = predict(network, next(single), jnp.array(t), next(single), mask)
    definition = Definition(network)
    for i, length in enumerate(lengths):
        expected = definition(x[i], t[i], text[i, :length])
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(output[i], expected, atol=2e-4 * np.abs(expected).max())


def test_every_parameter_takes_part():
    """So that the definition above cannot agree by leaving a layer out: the null token alone."""
    config = UNetConfig(
        in_channels=3, head_dim=HEAD, context_dim=TEXT, embed_dim=EMBED, norm_groups=GROUPS,
        **CASES["two levels"],
    )  # fmt: skip
    network = random_network(lambda rngs: UNet(config, rngs=rngs))
    definition = Definition(network)
    used = set()

    class Watched(dict):
        def __getitem__(self, name):
            used.add(name)
            return super().__getitem__(name)

        def get(self, name, default=None):
            return self[name] if name in self else default  # noqa: SIM401

    definition.p = Watched(definition.p)
    definition(np.zeros((4, 4, 3)), 5, np.ones((2, TEXT)))
    assert set(definition.p) - used == {"null_token"}
