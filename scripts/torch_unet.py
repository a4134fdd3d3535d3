"""DiffusionGen2's UNet in PyTorch, for comparison in scripts/benchmark.py.

Plain modules as usual in torch, named like the original state dict: fused attention
(scaled_dot_product_attention), NCHW. It needs torch (requirements/torch.txt); nothing else here
imports it.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dg2_jax.nn.dg2_unet import DG2UNetConfig


def norm_conv(i: int, o: int, c: DG2UNetConfig) -> nn.Sequential:
    """GroupNorm, SiLU, 3x3 convolution, dropout."""
    return nn.Sequential(
        nn.GroupNorm(c.n_groups, i), nn.SiLU(), nn.Conv2d(i, o, 3, padding=1), nn.Dropout(c.dropout)
    )


class Attention(nn.Module):
    """Multi-head attention to `kv`'s tokens; the parts of one head lie next to each other."""

    def __init__(self, width: int, heads: int, context: int | None):
        super().__init__()
        self.heads = heads
        if context is None:
            self.qkv = nn.Linear(width, 3 * width, bias=False)
        else:
            self.q = nn.Linear(width, width, bias=False)
            self.kv = nn.Linear(context, 2 * width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Self-attention without a context."""
        if context is None:
            q, k, v = self._heads(self.qkv(x)).chunk(3, dim=-1)
        else:
            q = self._heads(self.q(x))
            k, v = self._heads(self.kv(context)).chunk(2, dim=-1)
        return self.wo(
            functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        )


class AttentionBlock(nn.Module):
    """Self-attention, cross-attention and GEGLU between two 1x1 convolutions, plus the input."""

    def __init__(self, width: int, c: DG2UNetConfig):
        super().__init__()
        self.groupnorm = nn.GroupNorm(c.n_groups, width)
        self.conv_input = nn.Conv2d(width, width, 1)
        self.ln1, self.ln2, self.ln3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, c.n_heads, None)
        self.cross_attention = Attention(width, c.n_heads, c.n_embd)
        self.linear_geglu_1 = nn.Linear(width, 8 * width, bias=False)
        self.linear_geglu_2 = nn.Linear(4 * width, width, bias=False)
        self.conv_output = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(b, c, h, w) to the same."""
        y = self.conv_input(self.groupnorm(x)).flatten(2).transpose(1, 2)
        y = y + self.self_attention(self.ln1(y))
        y = y + self.cross_attention(self.ln2(y), context)
        value, gate = self.linear_geglu_1(self.ln3(y)).chunk(2, dim=-1)
        y = y + self.linear_geglu_2(value * functional.gelu(gate))
        return x + self.conv_output(y.transpose(1, 2).reshape(x.shape))


class TorchStage(nn.Module):
    """The blocks of one resolution; see `dg2_jax.nn.dg2_unet.DG2Stage`."""

    def __init__(self, i: int, o: int, kind: str, c: DG2UNetConfig):
        super().__init__()
        n, first = c.n_layers, i if kind == "encoder" else o
        self.n = n
        if kind == "decoder":
            self.upsample = nn.ConvTranspose2d(i, i, 2, 2)
            self.skip_conv = nn.Conv2d(2 * i, o, 3, padding=1)
        self.resnet_layers = nn.ModuleList(
            norm_conv(first if j == 0 else o, o, c) for j in range(2 * n)
        )
        self.attention_blocks = nn.ModuleList(AttentionBlock(o, c) for _ in range(n))
        self.t_embd_linear = nn.Linear(c.t_embd * c.t_embd_scale, o, bias=False)
        if kind == "encoder":
            self.residual_conv = nn.Conv2d(i, o, 1)
            self.downsample = nn.Conv2d(o, o, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """Residual block with the time, residual block with attention, n times."""
        shift = self.t_embd_linear(time)[:, :, None, None]
        for j, attention in enumerate(self.attention_blocks):
            residual = self.residual_conv(x) if j == 0 and hasattr(self, "residual_conv") else x
            x = (self.resnet_layers[j](x) + shift + residual) * math.sqrt(0.5)
            x = (attention(self.resnet_layers[self.n + j](x), context) + x) * math.sqrt(0.5)
        return x


class TimeTable(nn.Module):
    """The published table, which divides by a reciprocal (`DG2UNetConfig.legacy_time_table`)."""

    te: Tensor

    def __init__(self, c: DG2UNetConfig):
        super().__init__()
        d = torch.exp(-math.log(10000.0) * torch.arange(0, c.t_embd, 2) / c.t_embd)
        angle = torch.arange(c.num_train_timesteps)[:, None] / d
        self.register_buffer("te", torch.stack([angle.sin(), angle.cos()], -1).flatten(1))

    def forward(self, t: Tensor) -> Tensor:
        """Rows of the table."""
        return self.te[t]


class TorchUNet(nn.Module):
    """`dg2_jax.nn.dg2_unet.DG2UNet`, NCHW."""

    def __init__(self, c: DG2UNetConfig):
        super().__init__()
        widths, time = c.channels, c.t_embd * c.t_embd_scale
        pairs = list(itertools.pairwise(widths))

        def stages(of: list, kind: str) -> nn.ModuleList:
            return nn.ModuleList(TorchStage(i, o, kind, c) for i, o in of)

        self.time_embd_layer = TimeTable(c)
        self.time_mlp = nn.Sequential(nn.Linear(c.t_embd, time), nn.SiLU(), nn.Linear(time, time))
        self.in_conv = nn.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.encoders = stages(pairs, "encoder")
        self.bottle_necks = stages([(widths[-1], widths[-1])] * c.n_bn, "bottleneck")
        self.decoders = stages([(o, i) for i, o in reversed(pairs)], "decoder")
        self.final_layer = norm_conv(widths[0], c.in_channels, c)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The network's output for noisy latents (b, c, h, w)."""
        time = self.time_mlp(self.time_embd_layer(t))
        x, skips = self.in_conv(x), []
        for stage in self.encoders:
            x = stage(x, time, context)
            skips.append(x)
            x = stage.downsample(x)
        for stage in self.bottle_necks:
            x = stage(x, time, context)
        for stage in self.decoders:
            x = stage.skip_conv(torch.cat([stage.upsample(x), skips.pop()], dim=1))
            x = stage(x, time, context)
        return self.final_layer(x)
