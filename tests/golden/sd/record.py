"""Records the small models of this folder, with random weights, by diffusers and transformers.

    python tests/golden/sd/record.py    (with requirements/torch.txt installed)

Each differs from `sd1_tiny` where published models differ, or may.
Recorded with diffusers 0.42.1, transformers 5.24 and torch 2.13 on a CPU, in float32; arrays are
NCHW. `names.json.gz` holds the original names of the modules of Stable Diffusion 1.5's and XL's
UNets, as diffusers converts them.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

HERE = Path(__file__).parent
PROMPTS = ["a lake at dawn", "snow on a VOLCANO, (very) bright; été!", ""]
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SMALL = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16}
XL_ADDED = {"addition_embed_type": "text_time", "addition_time_embed_dim": 6}


def random(model, seed):
    """Every parameter drawn so that no path vanishes or explodes."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            p.data = p.data + 0.2 * noise
        else:
            p.data = noise if "embedding" in name and p.ndim == 2 else noise / p[0].numel() ** 0.5
    return model.eval()


def text(seed, width, activation, projection=None):
    config = CLIPTextConfig(
        vocab_size=526, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3,
        num_attention_heads=2, hidden_act=activation, bos_token_id=524, eos_token_id=525,
        projection_dim=projection or width,
    )  # fmt: skip
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return random(kind(config), seed)


def vae():
    stages = {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    }
    sizes = {"block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1}
    return random(AutoencoderKL(**stages, **sizes, latent_channels=4, scaling_factor=0.13025), 9)


def save_arrays(path, **arrays):
    np.savez_compressed(path, **{k: v.numpy() for k, v in arrays.items() if v is not None})


def record_pipeline(name, pipe, size):
    """Contexts, the UNet's output and a guided run."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    pipe.save_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    is_xl = isinstance(pipe, StableDiffusionXLPipeline)
    x = torch.randn((3, pipe.unet.config.in_channels, *size), generator=generator)
    noise = torch.randn((1, 4, 16, 16), generator=generator)
    t = torch.tensor([0, 499, 999])
    time_ids = torch.tensor([[48, 64, 3, 0, 32, 40]] * 3) if is_xl else None

    def encoded(**options):
        options = {"device": "cpu", "num_images_per_prompt": 1, **options}
        options["do_classifier_free_guidance"] = False
        out = pipe.encode_prompt(prompt=PROMPTS, **options)
        return (out[0], out[2]) if is_xl else (out[0], None)

    with torch.no_grad():
        context, pooled = encoded()
        if is_xl:
            skipped, _ = encoded(clip_skip=1)
        else:  # what `clip_skip=1` means; the pipeline's own code does not run with transformers 5
            ids = pipe.tokenizer(PROMPTS, padding="max_length", max_length=77, return_tensors="pt")
            states = pipe.text_encoder(ids.input_ids, output_hidden_states=True).hidden_states
            skipped = pipe.text_encoder.final_layer_norm(states[-2])
        added = {"text_embeds": pooled, "time_ids": time_ids} if is_xl else None
        unet = pipe.unet(x, t, context, added_cond_kwargs=added).sample
        latent = pipe(
            PROMPTS[0], negative_prompt=PROMPTS[1], num_inference_steps=5, guidance_scale=4.0,
            latents=noise, output_type="latent", height=32, width=32,
        ).images  # fmt: skip
        image = pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample
    save_arrays(
        folder / "reference.npz", x=x, t=t, context=context, context_clip_skip=skipped, unet=unet,
        pooled=pooled, time_ids=time_ids, noise=noise, ddim_latent=latent, ddim_image=image,
    )  # fmt: skip


def record_pipelines():
    tokenizer = CLIPTokenizer.from_pretrained(HERE / "sd1_tiny" / "tokenizer")
    padded = CLIPTokenizer.from_pretrained(HERE / "sd1_tiny" / "tokenizer", pad_token="!")
    unet = UNet2DConditionModel(
        **SMALL, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=(2, 4),
        cross_attention_dim=16, use_linear_projection=True, layers_per_block=1,
        upcast_attention=True,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        **BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae(), text(2, 16, "gelu"), padded, random(unet, 1), scheduler, None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    record_pipeline("sd2_small", pipe, (16, 12))
    unet = UNet2DConditionModel(
        **SMALL, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
        cross_attention_dim=40, use_linear_projection=True, layers_per_block=1,
        transformer_layers_per_block=[1, 2], projection_class_embeddings_input_dim=48, **XL_ADDED,
    )  # fmt: skip
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipe = StableDiffusionXLPipeline(
        vae(), text(3, 16, "quick_gelu"), text(4, 24, "gelu", 12), tokenizer, padded,
        random(unet, 5), scheduler,
    )  # fmt: skip
    record_pipeline("xl_small", pipe, (13, 16))


def record_unets():
    """A UNet with 9 channels, levels that do not mirror each other, and a guidance input."""
    generator = torch.Generator().manual_seed(2)
    unet = UNet2DConditionModel(
        **SMALL, in_channels=9, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
        cross_attention_dim=12, layers_per_block=[1, 2], mid_block_type="UNetMidBlock2D",
        time_cond_proj_dim=10, flip_sin_to_cos=False, freq_shift=1,
    )  # fmt: skip
    random(unet, 6).save_pretrained(HERE / "inpaint_small" / "unet")
    x, context = (
        torch.randn((2, 9, 12, 12), generator=generator),
        torch.randn((2, 7, 12), generator=generator),
    )
    t, scale = torch.tensor([981, 3]), torch.tensor([7.5, 1.5])
    guidance = StableDiffusionPipeline.get_guidance_scale_embedding(None, scale - 1, 10)
    with torch.no_grad():
        y = unet(x, t, context, timestep_cond=guidance).sample
    save_arrays(
        HERE / "inpaint_small" / "reference.npz", x=x, t=t, context=context, guidance_scale=scale,
        unet=y,
    )  # fmt: skip


def record_controlnets():
    for name, pipeline, options in (
        ("controlnet_sd2", "sd2_small", {"conditioning_embedding_out_channels": (4, 8)}),
        (
            "controlnet_xl", "xl_small",
            {
                "conditioning_embedding_out_channels": (4, 8),
                "controlnet_conditioning_channel_order": "bgr",
            },
        ),
    ):  # fmt: skip
        unet = UNet2DConditionModel.from_pretrained(HERE / pipeline, subfolder="unet")
        controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False, **options)
        record_controlnet(name, pipeline, unet, controlnet)
    # As the small ones that are published for XL.
    config = dict(ControlNetModel.load_config(HERE / "controlnet_xl"))
    plain = {"down_block_types": ["DownBlock2D"] * 2, "mid_block_type": "UNetMidBlock2D"}
    controlnet = ControlNetModel.from_config(config | plain)
    record_controlnet("controlnet_xl_plain", "xl_small", unet, controlnet)


def record_controlnet(name, pipeline, unet, controlnet):
    random(controlnet, 7).half().save_pretrained(HERE / name, variant="fp16")
    controlnet.float()
    with np.load(HERE / pipeline / "reference.npz") as file:
        given = {k: torch.from_numpy(v) for k, v in file.items()}
    x, t, context = given["x"], given["t"], given["context"]
    factor = 2 ** (len(controlnet.config.conditioning_embedding_out_channels) - 1)
    size = (3, 3, factor * x.shape[2], factor * x.shape[3])
    pixels = torch.randint(256, size, generator=torch.Generator().manual_seed(3))
    added = {"text_embeds": given.get("pooled"), "time_ids": given.get("time_ids")}
    with torch.no_grad():
        down, mid = controlnet(
            x, t, context, pixels / 255, 0.7, added_cond_kwargs=added, return_dict=False
        )
        y = unet(
            x, t, context, added_cond_kwargs=added, down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample  # fmt: skip
    save_arrays(HERE / name / "reference.npz", image=pixels.byte(), unet=y)


def record_between():
    """The UNet between two training timesteps, where some schedulers evaluate it."""
    unet = UNet2DConditionModel.from_pretrained(HERE / "sd2_small", subfolder="unet")
    with np.load(HERE / "sd2_small" / "reference.npz") as file:
        x, context = (torch.from_numpy(file[name]) for name in ("x", "context"))
    t = torch.tensor([0.25, 41.625, 777.3])
    with torch.no_grad():
        y = unet(x, t, context).sample
    save_arrays(HERE / "sd2_small" / "between.npz", t=t, unet=y)


def record_tiny_autoencoder():
    sizes = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    blocks = {"num_encoder_blocks": (1, 2, 1, 2), "num_decoder_blocks": (2, 1, 2, 1)}
    model = random(AutoencoderTiny(**sizes, **blocks), 8)
    model.save_pretrained(HERE / "taesd_tiny")
    generator = torch.Generator().manual_seed(4)
    x = 2 * torch.rand((2, 3, 32, 48), generator=generator) - 1
    z = 2 * torch.randn((2, 4, 4, 6), generator=generator)
    with torch.no_grad():
        encoded, decoded = model.encode(x).latents, model.decode(z).sample
    save_arrays(HERE / "taesd_tiny" / "reference.npz", x=x, encoded=encoded, z=z, decoded=decoded)


if __name__ == "__main__":
    record_pipelines()
    record_unets()
    record_controlnets()
    record_between()
    record_tiny_autoencoder()
