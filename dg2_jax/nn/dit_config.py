"""The configuration of the diffusion transformer (`dg2_jax.nn.dit`)."""

import dataclasses

from dg2_jax.nn.precision import remat_policy


@dataclasses.dataclass(frozen=True)
class DiTConfig:
    """Shape of a diffusion transformer.

    Attributes:
        in_channels: latent channels, in and out.
        patch_size: side of a patch in cells; divides the latent's height and width.
        width: channels of a token; a multiple of 4.
        depth: blocks.
        head_dim: width of an attention head; divides `width`.
        context_dim: width of the text tokens.
        embed_dim: width of the time and pooled-text embedding.
        mlp_ratio: hidden width of a block's feed-forward over `width`.
        dropout: rate after the feed-forward's activation, when a dropout key is passed.
        remat: recompute block activations in the backward pass (less memory, about 30% slower).
        remat_policy: which, "everything" or "cheap"; see `dg2_jax.nn.precision`.
    """

    in_channels: int = 8
    patch_size: int = 2
    width: int = 256
    depth: int = 8
    head_dim: int = 32
    context_dim: int = 384
    embed_dim: int = 256
    mlp_ratio: int = 4
    dropout: float = 0.0
    remat: bool = False
    remat_policy: str = "everything"

    def __post_init__(self):
        """Check the fields.

        Raises:
            ValueError: naming the field and what is allowed.
        """
        for name in ("in_channels", "patch_size", "depth", "mlp_ratio"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width < 4 or self.width % 4:
            raise ValueError(f"width must be a multiple of 4, got {self.width}")
        if self.head_dim < 1 or self.width % self.head_dim:
            raise ValueError(f"head_dim={self.head_dim} must divide width, got {self.width}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        remat_policy(self.remat_policy)

    @property
    def latent_multiple(self) -> int:
        """What the height and width of a latent must be multiples of."""
        return self.patch_size
