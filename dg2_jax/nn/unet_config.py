"""The configuration of this project's UNet (`dg2_jax.nn.unet`)."""

import dataclasses

from dg2_jax.nn.precision import remat_policy


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Shape of a UNet.

    Attributes:
        in_channels: latent channels, in and out.
        channels: width of each level; each level halves the resolution of the one before.
        blocks_per_level: residual blocks per level on the way down (one more on the way up).
        attention_levels: for each level, whether its blocks are followed by attention.
        head_dim: width of an attention head; divides the channels of every attention level.
        context_dim: width of the text tokens.
        embed_dim: width of the time and pooled-text embedding.
        norm_groups: groups of every GroupNorm; divides every entry of `channels`.
        dropout: rate inside residual blocks, when a dropout key is passed.
        remat: recompute block activations in the backward pass (less memory, about 30% slower).
        remat_policy: which, "everything" or "cheap"; see `dg2_jax.nn.precision`.
    """

    in_channels: int = 8
    channels: tuple[int, ...] = (64, 128, 192)
    blocks_per_level: int = 1
    attention_levels: tuple[bool, ...] = (False, True, True)
    head_dim: int = 32
    context_dim: int = 384
    embed_dim: int = 256
    norm_groups: int = 16
    dropout: float = 0.0
    remat: bool = False
    remat_policy: str = "everything"

    def __post_init__(self):
        """Check the fields; JSON's lists become tuples.

        Raises:
            ValueError: naming the field and what is allowed.
        """
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "attention_levels", tuple(self.attention_levels))
        if not self.channels or len(self.attention_levels) != len(self.channels):
            raise ValueError("attention_levels needs one entry for each entry of channels")
        for width, attends in zip(self.channels, self.attention_levels, strict=True):
            if width % self.norm_groups:
                raise ValueError(
                    f"norm_groups={self.norm_groups} must divide channels, got {width}"
                )
            if attends and width % self.head_dim:
                raise ValueError(f"head_dim={self.head_dim} must divide channels, got {width}")
        if self.blocks_per_level < 1:
            raise ValueError(f"blocks_per_level must be at least 1, got {self.blocks_per_level}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        remat_policy(self.remat_policy)

    @property
    def latent_multiple(self) -> int:
        """What the height and width of a latent must be multiples of."""
        return 2 ** (len(self.channels) - 1)
