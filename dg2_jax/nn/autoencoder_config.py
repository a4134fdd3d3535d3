"""The configuration of the variational autoencoder (`dg2_jax.nn.autoencoder`)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dg2_jax.nn.scaling import Scaling

DOWNSAMPLE_KINDS = ("asymmetric", "symmetric")


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of an autoencoder; the defaults are Stable Diffusion's.

    Attributes:
        in_channels: Channels of the images that `encode` takes.
        out_channels: Channels of the images that `decode` returns.
        latent_channels: Channels of a latent.
        block_out_channels: Width at each resolution, finest first; all but the last halve it.
        layers_per_block: Residual blocks at each resolution of the encoder.
        decoder_block_out_channels: The decoder's widths, finest first; None: the encoder's. Each
            additional entry doubles the pictures: the encoder then works on the means of 2 x 2 (or
            4 x 4) pixels, and the decoder restores the detail.
        decoder_layers_per_block: Residual blocks at each resolution of the decoder; None: one more
            than in the encoder.
        norm_num_groups: Groups of every GroupNorm; divides every width.
        mid_block_add_attention: Self-attention at the lowest resolution.
        use_quant_conv: A 1x1 convolution after the encoder.
        use_post_quant_conv: A 1x1 convolution before the decoder.
        scaling_factor: Latents are multiplied by it to reach about unit variance.
        shift_factor: Subtracted from latents before the scaling.
        patch_size: Side in pixels of the patches that are folded into channels before the encoder
            and unfolded after the decoder; 1 works on pixels.
        head_channels: With `patch_size` > 1, channels per pixel that the decoder unfolds to; a last
            3x3 convolution over pixels, which sees across the borders of the patches, turns them
            into `out_channels`. 0 unfolds to the image directly (faster, visible blocks).
        downsample: "asymmetric" (Stable Diffusion) or "symmetric" (no preferred direction).

    Raises:
        ValueError: For a value out of range, naming the field.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    decoder_block_out_channels: tuple[int, ...] | None = None
    decoder_layers_per_block: int | None = None
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling_factor: float = 0.18215
    shift_factor: float = 0.0
    patch_size: int = 1
    head_channels: int = 16
    downsample: str = "asymmetric"

    def __post_init__(self) -> None:
        positive = ["in_channels", "out_channels", "latent_channels", "layers_per_block"]
        positive += ["decoder_layers_per_block", "norm_num_groups", "patch_size"]
        for name in positive:
            value = getattr(self, name)
            if value is None and name == "decoder_layers_per_block":
                continue
            if not _is_int(value) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if not _is_int(self.head_channels) or self.head_channels < 0:
            raise ValueError(
                f"head_channels must be a non-negative integer, got {self.head_channels!r}"
            )
        self._check_widths("block_out_channels", self.block_out_channels)
        if self.decoder_block_out_channels is not None:
            self._check_widths("decoder_block_out_channels", self.decoder_block_out_channels)
            if len(self.decoder_block_out_channels) < len(self.block_out_channels):
                raise ValueError(
                    "decoder_block_out_channels must have at least as many entries as "
                    f"block_out_channels ({len(self.block_out_channels)}), "
                    f"got {self.decoder_block_out_channels}"
                )
        for name in ("mid_block_add_attention", "use_quant_conv", "use_post_quant_conv"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if not _is_real(self.scaling_factor) or not 0 < self.scaling_factor < float("inf"):
            raise ValueError(
                f"scaling_factor must be a positive number, got {self.scaling_factor!r}"
            )
        if not _is_real(self.shift_factor) or not abs(self.shift_factor) < float("inf"):
            raise ValueError(f"shift_factor must be a finite number, got {self.shift_factor!r}")
        if self.downsample not in DOWNSAMPLE_KINDS:
            raise ValueError(
                f"downsample must be one of {DOWNSAMPLE_KINDS}, got {self.downsample!r}"
            )

    def _check_widths(self, name: str, widths: Any) -> None:
        fine = isinstance(widths, tuple) and widths and all(_is_int(w) and w > 0 for w in widths)
        if not fine:
            raise ValueError(f"{name} must be a non-empty tuple of positive integers, got {widths}")
        if any(w % self.norm_num_groups for w in widths):
            raise ValueError(
                f"every entry of {name} must be a multiple of norm_num_groups "
                f"({self.norm_num_groups}), got {widths}"
            )

    @property
    def downsampling_factor(self) -> int:
        """Pixels on a side of one latent cell."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1) * self.decoder_scale

    @property
    def decoder_scale(self) -> int:
        """How many times wider a decoded picture is than the encoder's averaged input."""
        widths = self.decoder_block_out_channels or self.block_out_channels
        return 2 ** (len(widths) - len(self.block_out_channels))

    @property
    def scaling(self) -> Scaling:
        """The scaling of the latents."""
        return Scaling(self.scaling_factor, self.shift_factor)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AutoencoderConfig":
        """Builds a configuration from plain data, such as parsed JSON.

        Raises:
            ValueError: For an unknown key or a bad value, naming it.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"unknown autoencoder configuration keys {unknown}; known: {known}")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON types) that `from_dict` turns back into an equal configuration."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)
