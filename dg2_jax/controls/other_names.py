"""What other tools call what this one has, so that an unknown name is answered with ours."""

OTHER_NAMES = {
    **dict.fromkeys(("prompts", "text", "caption"), "prompt"),
    **dict.fromkeys(("negative", "negative_prompts", "uncond"), "negative_prompt"),
    **dict.fromkeys(
        ("num_images_per_prompt", "batch_size", "n", "n_iter", "num_samples", "n_samples"),
        "num_images",
    ),
    **dict.fromkeys(("generator", "seeds", "rng", "key", "latents", "noise"), "seed"),
    **dict.fromkeys(
        ("steps", "num_steps", "n_steps", "sampling_steps", "ddim_steps", "denoising_steps"),
        "num_inference_steps",
    ),
    **dict.fromkeys(("cfg", "cfg_scale", "guidance", "scale", "true_cfg_scale"), "guidance_scale"),
    **dict.fromkeys(("sampler", "sampler_name", "sampler_index", "scheduler"), "solver"),
    **dict.fromkeys(("timesteps", "sigmas", "timestep_spacing"), "spacing"),
    **dict.fromkeys(("init_image", "init_images", "source_image"), "image"),
    **dict.fromkeys(("denoising_strength", "denoise", "noise_strength"), "strength"),
    **dict.fromkeys(("subseed", "variation"), "variation_seed"),
    "subseed_strength": "variation_strength",
    **dict.fromkeys(("mask_image", "inpaint_mask"), "mask"),
    **dict.fromkeys(("mask_blur", "feather"), "mask_feather"),
    **dict.fromkeys(("inpaint_full_res", "padding_mask_crop"), "inpaint_area"),
    **dict.fromkeys(("inpaint_full_res_padding", "padding"), "inpaint_padding"),
    **dict.fromkeys(("size", "resolution", "image_size"), "height and width"),
    **dict.fromkeys(("enable_hr", "hr_scale", "hires_fix", "hires_scale"), "hires_size"),
    "hr_upscaler": "hires_method",
    "hr_second_pass_steps": "hires_steps",
    **dict.fromkeys(("callback", "callback_on_step_end"), "on_preview"),
    "callback_steps": "preview_every",
    **dict.fromkeys(("show_progress", "progress_bar", "verbose"), "progress"),
    **dict.fromkeys(("use_ema", "variant"), "weights"),
    **dict.fromkeys(
        ("prompt_embeds", "negative_prompt_embeds"), "Pipeline.encode with Pipeline.sampler"
    ),
    **dict.fromkeys(
        ("output_type", "return_dict"),
        "the result's .images, NumPy arrays, or .pil, PIL images",
    ),
}
