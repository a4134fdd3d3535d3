"""The configuration of DiffusionGen2's UNet (`dg2_jax.nn.dg2_unet`)."""

import dataclasses

from dg2_jax.nn.precision import remat_policy


@dataclasses.dataclass(frozen=True)
class DG2UNetConfig:
    """Shape of the UNet; the defaults are the published 354 M model.

    Attributes:
        in_channels: latent channels, in and out.
        channels: width before the first stage, then of each stage; each stage halves the
            resolution, so there is one stage fewer than entries.
        n_layers: pairs of residual blocks per stage, the second of each pair with attention.
        n_bn: bottleneck stages.
        n_groups: groups of every GroupNorm; divides every width.
        n_heads: attention heads; divides the width of every stage.
        n_embd: width of the text tokens.
        t_embd: width of the time table, even.
        t_embd_scale: the time MLP is this many times as wide.
        num_train_timesteps: rows of the time table.
        dropout: rate after each 3x3 convolution, when a dropout key is passed.
        legacy_time_table: look the time up in the table that came with imported weights. The
            published table divides by 1/frequency in float32, so its entries depend on the last
            bit of that machine's exp and cannot be recomputed, only kept. False: the standard
            sinusoidal embedding, for models trained with this project.
        remat: recompute stage activations in the backward pass (less memory, about 30% slower).
        remat_policy: which, "everything" or "cheap"; see `dg2_jax.nn.precision`.
    """

    in_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 512, 1024)
    n_layers: int = 3
    n_bn: int = 1
    n_groups: int = 16
    n_heads: int = 16
    n_embd: int = 512
    t_embd: int = 128
    t_embd_scale: int = 4
    num_train_timesteps: int = 1000
    dropout: float = 0.1
    legacy_time_table: bool = False
    remat: bool = False
    remat_policy: str = "everything"

    def __post_init__(self):
        """Check the fields; JSON's lists become tuples.

        Raises:
            ValueError: naming the field and what is allowed.
        """
        object.__setattr__(self, "channels", tuple(self.channels))
        limits = {
            "in_channels": 1024, "n_layers": 64, "n_bn": 64, "n_groups": 4096, "n_heads": 4096,
            "n_embd": 65536, "t_embd": 65536, "t_embd_scale": 64, "num_train_timesteps": 1_000_000,
        }  # fmt: skip
        for name, most in limits.items():
            value, least = getattr(self, name), 0 if name == "n_bn" else 1
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name} must be an integer from {least} to {most}: {value!r}")
        if not 2 <= len(self.channels) <= 12:
            raise ValueError(f"channels needs 2 to 12 entries, got {len(self.channels)}")
        for width in self.channels:
            if type(width) is not int or not 1 <= width <= 65536 or width % self.n_groups:
                raise ValueError(f"n_groups={self.n_groups} must divide channels, got {width!r}")
            if width % self.n_heads:
                raise ValueError(f"n_heads={self.n_heads} must divide channels, got {width}")
        if self.t_embd % 2:
            raise ValueError(f"t_embd must be even, got {self.t_embd}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        remat_policy(self.remat_policy)

    @property
    def latent_multiple(self) -> int:
        """What the height and width of a latent must be multiples of."""
        return 2 ** (len(self.channels) - 1)
