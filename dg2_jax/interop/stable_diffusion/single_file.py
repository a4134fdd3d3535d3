"""One `.safetensors` or `.ckpt` file that holds a whole model under the original names."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.checks import naming
from dg2_jax.interop import diffusers_vae, hf_text, recognition
from dg2_jax.interop.clip_tokenizer import END, VOCABULARY_SIZE, published_tokenizer
from dg2_jax.interop.safetensors_reader import read_safetensors
from dg2_jax.interop.stable_diffusion import folder as folders
from dg2_jax.interop.stable_diffusion import original_names as original
from dg2_jax.interop.stable_diffusion.parts import Parts, Tensors, TextPart
from dg2_jax.interop.stable_diffusion.scheduler import Scheduler, parse_scheduler
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.clip import ClipTextConfig
from dg2_jax.nn.sd_config import SDUNetConfig

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
# Where a text encoder may be, and the layers of it that are used where not all are.
_CLIP = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
_OPEN_CLIP = ("cond_stage_model.model.", "conditioner.embedders.1.model.")
_HEAD_DIM = 64  # of OpenCLIP, of CLIP ViT-L and of UNets from 2.0 on
_HEADS = 8  # of UNets of 1.x, at every level
_OPEN_CLIP_PAD = "!"

# Keys by which files of other models are known.
_OTHERS = {
    "double_blocks.": "a Flux model",
    "joint_blocks.": "a Stable Diffusion 3 model",
    "adaln_single.": "a PixArt model",
    "lora_unet_": "a LoRA file, which is added to a model",
    "lora_A": "a LoRA file, which is added to a model",
    "control_model.": "a ControlNet",
    "down_blocks.0.": "one part of a diffusers folder (name the folder)",
}
_PUBLISHED_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """What a file cannot tell.

    Attributes:
        config: a diffusers folder (its weights are not read) that has configurations, tokenizers
            and scheduler of the model. None: the folder that the file lies in where that is one,
            else what follows, with the tokenizer of CLIP as published.
        num_attention_heads: of the UNet's levels. None: 8 where its projections are convolutions
            (1.x), else 64 channels each (2.x, XL).
        norm_num_groups: of UNet and autoencoder.
        sample_size: side of the latents that it was trained on. None: 64, for XL 128.
    """

    config: str | os.PathLike | None = None
    num_attention_heads: tuple[int, ...] | None = None
    norm_num_groups: int = 32
    sample_size: int | None = None


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors` or `.ckpt` file; nothing of a pickle in it is run.

    Raises:
        CheckpointError: it is damaged or hostile.
        ValueError: it is neither, or holds something else.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in (".ckpt", ".pt", ".pth", ".bin"):
        return folders.read_state_dict(path)
    raise ValueError(f"{path} must end in .safetensors or .ckpt")


def read_single_file(
    path: Path,
    options: FileOptions,
    *,
    prediction_type: str | None = None,
    zero_terminal_snr: bool | None = None,
) -> Parts:
    """The parts of a model in a file; arguments and errors as of `load`."""
    tensors = read_tensors(path)
    _check_kind(path, tensors)
    configs = _config_folder(path, options)
    with naming(path):
        told, unet_tensors = original.unet(original.under(tensors, _UNET))
        unet = _unet_config(told, unet_tensors, options, configs)
        vae, vae_tensors = _vae(tensors, options, configs, is_xl=unet.addition_time_embed_dim > 0)
        texts = _texts(tensors, configs)
    is_xl = unet.addition_time_embed_dim > 0
    if configs is not None:
        scheduler = folders.read_scheduler(configs, prediction_type, zero_terminal_snr)
        zeros = folders.zeros_for_no_prompt(folders.read_index(configs))
        sample_size = folders.read_unet_config(configs)[1]
    else:
        scheduler = _scheduler(tensors, prediction_type, zero_terminal_snr)
        zeros, sample_size = is_xl, 128 if is_xl else 64
    return Parts(
        unet=unet,
        unet_tensors=unet_tensors,
        vae=vae,
        vae_tensors=vae_tensors,
        texts=texts,
        scheduler=scheduler,
        zeros_for_no_prompt=zeros,
        sample_size=options.sample_size or sample_size,
    )


def _check_kind(path: Path, tensors: Tensors) -> None:
    if recognition.is_refiner_file(tensors):
        raise ValueError(f"{path} is {recognition.REFINER}")
    if any(key.startswith(_UNET + "input_blocks.") for key in tensors):
        return
    for part, kind in _OTHERS.items():
        if any(part in key for key in tensors):
            raise ValueError(f"{path} is {kind}, not a whole Stable Diffusion model")
    raise ValueError(f"{path} is not a Stable Diffusion model: it has no {_UNET}input_blocks")


def _config_folder(path: Path, options: FileOptions) -> Path | None:
    if options.config is not None:
        folder = Path(options.config).expanduser()
        if not (folder / folders.INDEX).is_file():
            raise FileNotFoundError(f"config: there is no {folders.INDEX} in {folder}")
        return folder
    return path.parent if (path.parent / folders.INDEX).is_file() else None


def _unet_config(
    told: Mapping[str, Any], tensors: Tensors, options: FileOptions, configs: Path | None
) -> SDUNetConfig:
    if configs is not None:
        return folders.read_unet_config(configs)[0]
    heads = options.num_attention_heads
    if heads is None:
        widths = told["block_out_channels"]
        projection = next(v for k, v in tensors.items() if k.endswith(".proj_in.weight"))
        if projection.ndim == 4:
            heads = (_HEADS,) * len(widths)
        else:
            heads = tuple(width // _HEAD_DIM for width in widths)
        if 0 in heads:
            raise ValueError(
                f"its UNet is narrower than {_HEAD_DIM} channels: give num_attention_heads"
            )
    return SDUNetConfig(**told, num_attention_heads=heads, norm_num_groups=options.norm_num_groups)


def _vae(
    tensors: Tensors, options: FileOptions, configs: Path | None, *, is_xl: bool
) -> tuple[AutoencoderConfig, Tensors]:
    told, renamed = original.vae(original.under(tensors, _VAE))
    if configs is not None:
        values = folders.read_vae_config(configs)
        return diffusers_vae.parse_config(values), diffusers_vae.as_configured(values, renamed)
    scaling = 0.13025 if is_xl else 0.18215
    config = AutoencoderConfig(
        **told, norm_num_groups=options.norm_num_groups, scaling_factor=scaling
    )
    return config, renamed


def _texts(tensors: Tensors, configs: Path | None) -> tuple[TextPart, ...]:
    """The text encoders in the order of their embeddings."""
    texts = []
    is_xl = any(key.startswith("conditioner.") for key in tensors)
    for prefix in _CLIP:
        if held := original.under(tensors, prefix):
            texts.append(_text_part(held, "text_encoder", configs, END, "quick_gelu"))
    for prefix in _OPEN_CLIP:
        if held := original.under(tensors, prefix):
            # 2.x uses the last layer but one, normalised; its last is left out.
            layers = 1 + max(int(key.split(".")[2]) for key in held if ".resblocks." in key)
            layers -= not is_xl and layers > 23
            name = "text_encoder_2" if is_xl else "text_encoder"
            if configs is not None:
                layers = folders.read_text_config(configs / name).num_hidden_layers
            renamed = original.open_clip(held, layers)
            if not is_xl:
                renamed.pop("text_projection.weight", None)
            texts.append(_text_part(renamed, name, configs, _OPEN_CLIP_PAD, "gelu"))
    if not texts:
        raise ValueError("it holds no text encoder of CLIP or OpenCLIP")
    return tuple(texts)


def _text_part(
    tensors: Tensors, name: str, configs: Path | None, pad: str, activation: str
) -> TextPart:
    if configs is not None:
        config = folders.read_text_config(configs / name)
        place = configs / name.replace("text_encoder", "tokenizer")
        tokenizer = hf_text.load_tokenizer(place, config.vocab_size)
        pad_id = hf_text.clip_pad_id(place, tokenizer)
        return TextPart(config, tensors, tokenizer, pad_id, hf_text.clip_length(place, config))
    names = {hf_text.clip_text_parameter(key): key for key in tensors}
    try:
        vocabulary, width = tensors[names["token_embedding.weight"]].shape
        hidden = tensors[names["layers.0.fc1.weight"]].shape[0]
        length = tensors[names["position_embedding.weight"]].shape[0]
    except KeyError as error:
        raise ValueError(f"its text encoder lacks {error}") from error
    if vocabulary != VOCABULARY_SIZE:
        raise ValueError(
            f"its text encoder has {vocabulary} tokens, CLIP {VOCABULARY_SIZE}: name a folder "
            "with its tokenizer in `file_options.config`"
        )
    projection = tensors.get("text_projection.weight")
    config = ClipTextConfig(
        hidden_size=width,
        intermediate_size=hidden,
        projection_dim=width if projection is None else projection.shape[0],
        num_hidden_layers=1 + max(int(k.split(".")[1]) for k in names if k and k[:7] == "layers."),
        num_attention_heads=width // _HEAD_DIM,
        hidden_act=activation,
        vocab_size=vocabulary,
        max_position_embeddings=length,
    )
    tokenizer = published_tokenizer(pad)
    return TextPart(config, tensors, tokenizer, tokenizer.token_to_id(pad), length)


def _scheduler(
    tensors: Tensors, prediction_type: str | None, zero_terminal_snr: bool | None
) -> Scheduler:
    """The published schedule; some files of XL mark v-prediction and zero terminal SNR by a key."""
    marked = "v_prediction" if "v_pred" in tensors else None
    if zero_terminal_snr is None and "ztsnr" in tensors:
        zero_terminal_snr = True
    # The last level of such a schedule must be visited.
    spacing = {"timestep_spacing": "trailing"} if zero_terminal_snr else {}
    values = {**_PUBLISHED_SCHEDULER, **spacing}
    return parse_scheduler(values, prediction_type or marked, zero_terminal_snr)
