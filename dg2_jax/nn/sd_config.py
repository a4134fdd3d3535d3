"""The configuration of Stable Diffusion's UNet (`dg2_jax.nn.sd_unet`)."""

import dataclasses

from dg2_jax.nn.precision import remat_policy

# Above any published network; a damaged configuration must not exhaust the memory.
_MOST_LAYERS, _MOST_DEPTH = 16, 100

Depths = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class SDUNetConfig:
    """Shape of the UNet; the defaults are Stable Diffusion 1.5's.

    Attributes:
        in_channels: of the input: latent channels, plus mask and picture for in-painting models.
        out_channels: latent channels.
        block_out_channels: width of each level; each level halves the resolution of the one before.
        layers_per_block: residual blocks of each level on the way down (one more on the way up).
        down_depths: for each level on the way down, the number of transformer blocks after each
            of its residual blocks; empty if the level has no attention.
        mid_layers: residual blocks between the way down and the way up: 0, 1 or 2.
        mid_depths: the number of transformer blocks after each of them but the last.
        up_depths: as `down_depths` for the way up, in its order: deepest level first.
        num_attention_heads: of each level on the way down.
        cross_attention_dim: width of the text tokens.
        norm_num_groups: groups of every GroupNorm; divides every width.
        norm_eps: ε of the residual blocks' norms and of the last one.
        flip_sin_to_cos: cosines first in the time embedding.
        freq_shift: see `sd_blocks.timestep_embedding`.
        time_embedding_dim: width of the time embedding; None is four times the first level's.
        time_cond_proj_dim: width of the guidance embedding; 0: the network takes none.
        addition_time_embed_dim: width for each number of `time_ids`; 0: the network takes neither
            these nor a pooled vector.
        projection_class_embeddings_input_dim: total width of the pooled vector and `time_ids`.
        dropout: rate inside residual blocks, when a dropout key is passed.
        remat: recompute block activations in the backward pass (less memory, about 30% slower).
        remat_policy: which, "everything" or "cheap"; see `dg2_jax.nn.precision`.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: tuple[int, ...] = (2, 2, 2, 2)
    down_depths: Depths = ((1, 1), (1, 1), (1, 1), ())
    mid_layers: int = 2
    mid_depths: tuple[int, ...] = (1,)
    up_depths: Depths = ((), (1, 1, 1), (1, 1, 1), (1, 1, 1))
    num_attention_heads: tuple[int, ...] = (8, 8, 8, 8)
    cross_attention_dim: int = 768
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0
    time_embedding_dim: int | None = None
    time_cond_proj_dim: int = 0
    addition_time_embed_dim: int = 0
    projection_class_embeddings_input_dim: int = 0
    dropout: float = 0.0
    remat: bool = False
    remat_policy: str = "everything"

    def __post_init__(self):
        """Check the fields; JSON's lists become tuples.

        Raises:
            ValueError: naming the field and what is allowed.
        """
        for name in ("block_out_channels", "layers_per_block", "mid_depths", "num_attention_heads"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("down_depths", "up_depths"):
            object.__setattr__(self, name, tuple(map(tuple, getattr(self, name))))
        levels = len(self.block_out_channels)
        if not levels:
            raise ValueError("block_out_channels needs at least one entry")
        for name in ("in_channels", "out_channels", "cross_attention_dim", "norm_num_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.norm_eps < 1.0:
            raise ValueError(f"norm_eps must lie between 0 and 1, got {self.norm_eps}")
        for name in ("layers_per_block", "down_depths", "up_depths", "num_attention_heads"):
            if len(getattr(self, name)) != levels:
                raise ValueError(f"{name} needs one entry for each of block_out_channels")
        if not all(1 <= n <= _MOST_LAYERS for n in self.layers_per_block):
            raise ValueError(f"layers_per_block must be from 1 to {_MOST_LAYERS}")
        up_layers = [n + 1 for n in reversed(self.layers_per_block)]
        for name, layers in (("down_depths", self.layers_per_block), ("up_depths", up_layers)):
            for depths, count in zip(getattr(self, name), layers, strict=True):
                if len(depths) not in (0, count) or not all(0 <= d <= _MOST_DEPTH for d in depths):
                    raise ValueError(
                        f"{name} needs 0 or {count} entries from 0 to {_MOST_DEPTH}: {depths}"
                    )
        if self.mid_layers not in (0, 1, 2) or len(self.mid_depths) > max(self.mid_layers - 1, 0):
            raise ValueError("mid_layers must be 0, 1 or 2, mid_depths have fewer entries than it")
        if not all(0 <= depth <= _MOST_DEPTH for depth in self.mid_depths):
            raise ValueError(f"mid_depths must be from 0 to {_MOST_DEPTH}")
        heads = zip(self.block_out_channels, self.num_attention_heads, strict=True)
        for level, (width, count) in enumerate(heads):
            if width < 1 or width % self.norm_num_groups:
                raise ValueError(
                    f"norm_num_groups={self.norm_num_groups} must divide block_out_channels, "
                    f"got {width}"
                )
            depths = (*self.down_depths[level], *self.up_depths[levels - 1 - level])
            if level == levels - 1:
                depths += self.mid_depths
            if depths and (count < 1 or width % count):
                raise ValueError(
                    f"num_attention_heads must divide block_out_channels: {count}, {width}"
                )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        remat_policy(self.remat_policy)

    @property
    def latent_multiple(self) -> int:
        """1: the way up takes the sizes of the skips, so a latent may have any size."""
        return 1

    @property
    def embed_dim(self) -> int:
        """Width of the time embedding."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]
