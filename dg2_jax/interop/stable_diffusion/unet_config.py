"""config.json of a UNet2DConditionModel or ControlNetModel as the configuration of a network here.

Every key is read, known to change nothing, or refused by name unless it has the one value that the
networks here have.
"""

from collections.abc import Mapping
from typing import Any

from dg2_jax import config as config_lib
from dg2_jax.nn.sd_config import SDUNetConfig
from dg2_jax.nn.sd_controlnet import ControlNetConfig

_DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}  # whether the level attends
_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
_MID = {"UNetMidBlock2DCrossAttn": 2, "UNetMidBlock2D": 1, None: 0}  # residual blocks

# What is read, with the value where it is absent.
_DEFAULTS: dict[str, Any] = {
    "in_channels": 4,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "attention_head_dim": 8,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "projection_class_embeddings_input_dim": None,
}
_UNET_DEFAULTS: dict[str, Any] = {
    **_DEFAULTS,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "reverse_transformer_layers_per_block": None,
    "time_embedding_dim": None,
    "time_cond_proj_dim": None,
    "dropout": 0.0,
}
_CONTROLNET_DEFAULTS: dict[str, Any] = {
    **_DEFAULTS,
    "num_attention_heads": None,  # in the place of attention_head_dim, where it is given
    "conditioning_channels": 3,
    "conditioning_embedding_out_channels": [16, 32, 96, 256],
    "controlnet_conditioning_channel_order": "rgb",
}
# What changes nothing here: how it was made, both forms of one projection, the precision of
# attention (always float32), and the parts of what is refused.
_IGNORED = (
    "sample_size",
    "use_linear_projection",
    "upcast_attention",
    "addition_embed_type_num_heads",
)
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "global_pool_conditions": (False,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1,),
    "num_attention_heads": (None,),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_act_fn": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
}
_UNET_CLASS, _CONTROLNET_CLASS = "UNet2DConditionModel", "ControlNetModel"


def parse_unet(values: Mapping[str, Any]) -> SDUNetConfig:
    """The configuration of a UNet from the content of its config.json.

    Raises:
        ValueError: for a class, key or value that stands for a network this one is not.
    """
    settings = _checked(values, _UNET_CLASS, _UNET_DEFAULTS)
    levels = len(settings["block_out_channels"])
    shared = _shared(settings)
    attends = _kinds(settings, "up_block_types", _UP, levels)
    depths = settings["reverse_transformer_layers_per_block"]
    if depths is None:
        depths = _per_level(settings, "transformer_layers_per_block", levels)[::-1]
        if any(isinstance(depth, list | tuple) for depth in depths):
            raise ValueError(
                "transformer_layers_per_block with a list for a level needs "
                "reverse_transformer_layers_per_block"
            )
    elif not isinstance(depths, list | tuple) or len(depths) != levels:
        raise ValueError("reverse_transformer_layers_per_block needs one entry for each level")
    layers = [n + 1 for n in reversed(shared["layers_per_block"])]
    return _built(
        out_channels=settings["out_channels"],
        up_depths=_depths(attends, depths, layers),
        time_embedding_dim=settings["time_embedding_dim"],
        time_cond_proj_dim=settings["time_cond_proj_dim"] or 0,
        dropout=settings["dropout"],
        **shared,
    )


def parse_controlnet(values: Mapping[str, Any]) -> ControlNetConfig:
    """The configuration of a ControlNet; raises as `parse_unet`."""
    settings = _checked(values, _CONTROLNET_CLASS, _CONTROLNET_DEFAULTS)
    shared = _shared(settings)
    layers = [n + 1 for n in reversed(shared["layers_per_block"])]
    order = settings["controlnet_conditioning_channel_order"]
    if order not in ("rgb", "bgr"):
        raise ValueError(f"controlnet_conditioning_channel_order must be 'rgb' or 'bgr': {order!r}")
    channels = settings["conditioning_channels"]
    widths = settings["conditioning_embedding_out_channels"]
    fields = {"conditioning_channels": channels, "embedding_channels": widths}
    unet = _built(up_depths=[()] * len(layers), **shared)
    fields |= {"unet": unet, "bgr": order == "bgr"}
    return config_lib.from_mapping(ControlNetConfig, fields, "controlnet")


def _built(**fields: Any) -> SDUNetConfig:
    return config_lib.from_mapping(SDUNetConfig, fields, "unet")


def _checked(values: Mapping[str, Any], kind: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `defaults`' keys; everything else is refused or changes nothing."""
    if values.get("_class_name", kind) != kind:
        raise ValueError(f"its network is a {values['_class_name']}, not a {kind}")
    for key, value in values.items():
        if key.startswith("_") or key in defaults or key in _IGNORED:
            continue
        if key not in _ALLOWED:
            if value is None:
                continue
            raise ValueError(f"the setting {key} is not known here: {value!r}")
        each = value if isinstance(value, list) and value else [value]
        if any(one not in _ALLOWED[key] for one in each):
            raise ValueError(f"{key} must be {_ALLOWED[key][0]!r}, got {value!r}")
    settings = {key: values.get(key, default) for key, default in defaults.items()}
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        if key in settings and (not isinstance(settings[key], list) or not settings[key]):
            raise ValueError(f"{key} must be a list, got {settings[key]!r}")
    if settings["norm_num_groups"] is None:
        raise ValueError("norm_num_groups must be a number, got None")
    return settings


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that UNet and ControlNet are configured by alike."""
    levels = len(settings["block_out_channels"])
    layers = _per_level(settings, "layers_per_block", levels)
    if any(type(n) is not int or n < 1 for n in layers):
        raise ValueError(f"layers_per_block must be integers of at least 1, got {layers}")
    context = set(_per_level(settings, "cross_attention_dim", levels))
    if len(context) != 1:
        raise ValueError(f"cross_attention_dim must be one number, got {sorted(context)}")
    depths = _per_level(settings, "transformer_layers_per_block", levels)
    attends = _kinds(settings, "down_block_types", _DOWN, levels)
    middle = settings["mid_block_type"]
    if middle not in _MID:
        raise ValueError(f"mid_block_type must be one of {list(_MID)}, got {middle!r}")
    added = settings["addition_embed_type"]
    if added not in (None, "text_time"):
        raise ValueError(f"addition_embed_type must be None or 'text_time', got {added!r}")
    sizes = ("addition_time_embed_dim", "projection_class_embeddings_input_dim")
    if added and not all(settings[name] for name in sizes):
        raise ValueError(f"addition_embed_type 'text_time' needs {' and '.join(sizes)}")
    heads = "num_attention_heads" if settings.get("num_attention_heads") else "attention_head_dim"
    deepest = depths[-1][0] if isinstance(depths[-1], list | tuple) else depths[-1]
    return {
        "in_channels": settings["in_channels"],
        "block_out_channels": settings["block_out_channels"],
        "layers_per_block": layers,
        "down_depths": _depths(attends, depths, layers),
        "mid_layers": _MID[middle],
        "mid_depths": (deepest,) if _MID[middle] == 2 else (),
        "num_attention_heads": _per_level(settings, heads, levels),
        "cross_attention_dim": context.pop(),
        "norm_num_groups": settings["norm_num_groups"],
        "norm_eps": settings["norm_eps"],
        "flip_sin_to_cos": settings["flip_sin_to_cos"],
        "freq_shift": settings["freq_shift"],
        **{name: settings[name] if added else 0 for name in sizes},
    }


def _per_level(settings: Mapping[str, Any], key: str, levels: int) -> list[Any]:
    value = settings[key]
    if not isinstance(value, list | tuple):
        return [value] * levels
    if len(value) != levels:
        raise ValueError(f"{key} must have {levels} entries, as block_out_channels, got {value}")
    return list(value)


def _kinds(
    settings: Mapping[str, Any], key: str, kinds: Mapping[str, bool], levels: int
) -> list[bool]:
    for block in settings[key]:
        if block not in kinds:
            raise ValueError(f"{key} must be {' or '.join(kinds)}, got {block!r}")
    return [kinds[block] for block in _per_level(settings, key, levels)]


def _depths(attends: list[bool], depths: Any, layers: list[int]) -> list[tuple[int, ...]]:
    """Of each level: the depth of each of its transformers."""

    def one(depth: Any, count: int) -> tuple[int, ...]:
        return tuple(depth) if isinstance(depth, list | tuple) else (depth,) * count

    return [
        one(depth, count) if attending else ()
        for attending, depth, count in zip(attends, depths, layers, strict=True)
    ]
