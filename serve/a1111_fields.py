"""The fields that clients of the A1111 API send, by call, and what becomes of each."""

from typing import Any

from dg2_jax.checks import ParameterError
from dg2_jax.serve.foreign_fields import Ignored, Refused, Row, asks_nothing

_CHURN = "the solvers have no such noise"
_SAME = "the second pass is as the first, and upscalers of pictures make none"
_FACES = "there is no network for faces"
_KEPT = "pictures are kept until they are deleted"

GENERATE: dict[str, Row] = {
    "prompt": "`prompt`",
    "negative_prompt": "`negative_prompt`",
    "seed": "`seed`; -1 draws one",
    "sampler_name": "`solver`; an unknown one is 404",
    "sampler_index": "the same, where `sampler_name` is not sent",
    "scheduler": "`spacing`: Karras, Exponential, Uniform, SGM Uniform or DDIM; Automatic is the "
    "model's; others are 404",
    "batch_size": "times `n_iter` is `num_images`; with several `init_images` it counts them",
    "n_iter": "see `batch_size`",
    "steps": "`num_inference_steps`",
    "cfg_scale": "`guidance_scale`",
    "width": "with `height`: the model's size of the nearest aspect",
    "height": "see `width`",
    "override_settings": "`sd_model_checkpoint` and `CLIP_stop_at_last_layers`; others that change "
    "pictures are refused by name",
    "override_settings_restore_afterwards": Refused(
        (True,), "settings of a request are of that request alone", "override_settings"
    ),
    "script_name": "none is there: any name is refused",
    "script_args": Ignored("nothing without `script_name`"),
    "alwayson_scripts": "one unit of ControlNet; `anagram`, whose `args` are views; other "
    "extensions are refused unless switched off",
    "send_images": "as there",
    "styles": "names of `GET /prompt-styles`; an unknown one is refused",
    "subseed": "`variation_seed`; -1 draws one; all pictures have `seed`, picture i `subseed` + i",
    "subseed_strength": "`variation_strength`",
    "seed_resize_from_h": Refused((0, -1), "noise is drawn at the size of the picture"),
    "seed_resize_from_w": Refused((0, -1), "noise is drawn at the size of the picture"),
    "restore_faces": Refused((False,), _FACES),
    "tiling": Refused((False,), "pictures are not made to tile"),
    "s_churn": Refused((0,), _CHURN),
    "s_tmax": Refused((0,), _CHURN),
    "s_tmin": Refused((0,), _CHURN),
    "s_noise": Refused((1,), _CHURN),
    "s_min_uncond": Refused((0,), "`guidance_interval` says where guidance acts"),
    "refiner_checkpoint": Refused(("", "None"), "one model makes a picture"),
    "refiner_switch_at": Ignored("nothing without `refiner_checkpoint`"),
    "disable_extra_networks": Refused((False,), "what a prompt names is used"),
    "infotext": Refused(("",), "fields are sent one by one"),
    "eta": Ignored("clients send 1 unasked; the noise of DDIM is 0"),
    "do_not_save_samples": Ignored(_KEPT),
    "do_not_save_grid": Ignored("there are no grids"),
    "save_images": Ignored(_KEPT),
    "comments": Ignored("a reply's own field"),
    "force_task_id": Ignored("jobs have their own ids"),
}
CREATE: dict[str, Row] = GENERATE | {
    "enable_hr": "a second pass of the model, or an enlarged result: `hr_upscaler` says which",
    "hr_scale": "the factor, 1 to 8",
    "hr_resize_x": "with `hr_resize_y`: the size instead of the factor; 0 is as the other says",
    "hr_resize_y": "see `hr_resize_x`",
    "hr_upscaler": "a Latent one (`hires_method`, where antialiased ones are as the others and "
    "nearest is nearest-exact) enlarges latents for a second pass, to a size of the model or twice "
    "one, others are refused by `hr_scale`; a network or a filter enlarges the result to any size; "
    "an unknown one is 404",
    "hr_second_pass_steps": "`hires_steps`; 0 is `steps`; refused with an upscaler of pictures",
    "hr_checkpoint_name": Refused(("", "Use same checkpoint"), _SAME, "enable_hr"),
    "hr_sampler_name": Refused(("", "Use same sampler"), _SAME, "enable_hr"),
    "hr_scheduler": Refused(("", "Use same scheduler", "automatic"), _SAME, "enable_hr"),
    "hr_prompt": Refused(("",), _SAME, "enable_hr"),
    "hr_negative_prompt": Refused(("",), _SAME, "enable_hr"),
    "firstphase_width": Refused((0,), "`width` is that of the first pass", "enable_hr"),
    "firstphase_height": Refused((0,), "`height` is that of the first pass", "enable_hr"),
    "denoising_strength": "`hires_strength`; without a second pass nothing, as clients send 0.7 "
    "unasked",
}
CHANGE: dict[str, Row] = GENERATE | {
    "init_images": "each is changed by itself",
    "mask": "white, or opacity above 128, is repainted",
    "denoising_strength": "`strength`",
    "resize_mode": "0 stretches, 1 crops, 2 pads; 3 is refused",
    "mask_blur": "`mask_feather`",
    "mask_blur_x": Refused((4,), "`mask_blur` is that of both directions"),
    "mask_blur_y": Refused((4,), "`mask_blur` is that of both directions"),
    "mask_round": Refused((True,), "masks are grey"),
    "inpainting_fill": "0 starts from the colours around the mask, 1 from what is there, 2 and 3 "
    "from noise",
    "inpaint_full_res": '`inpaint_area` "only_masked"',
    "inpaint_full_res_padding": "`inpaint_padding`",
    "inpainting_mask_invert": "black is repainted",
    "include_init_images": "as there",
    "initial_noise_multiplier": Refused((1,), "the noise is that of the model's schedule"),
    "image_cfg_scale": Ignored("of models for instructions, as there"),
    "latent_mask": Refused((), "`mask` says what is repainted"),
}
EXTRAS: dict[str, Row] = {
    "image": "one picture; of `extra-single-image`",
    "imageList": "several; of `extra-batch-images`",
    "resize_mode": "0 by the factor, 1 to the size",
    "upscaling_resize": "the factor, 1 to 8",
    "upscaling_resize_w": "with `upscaling_resize_h`: the size",
    "upscaling_resize_h": "see `upscaling_resize_w`",
    "upscaling_crop": "whether what is beyond the size is cut",
    "upscaler_1": '"None" leaves the picture; an unknown one is 404',
    "upscaler_2": Refused(("None", ""), "one upscaler enlarges a picture"),
    "extras_upscaler_2_visibility": Ignored("nothing without `upscaler_2`"),
    "gfpgan_visibility": Refused((0,), _FACES),
    "codeformer_visibility": Refused((0,), _FACES),
    "codeformer_weight": Ignored("nothing without `codeformer_visibility`"),
    "upscale_first": Ignored("nothing without a network for faces"),
    "show_extras_results": Ignored("there is no window to show them in"),
}

# Settings of A1111 that change files, folders and its window, but no picture.
_HARMLESS = (
    "samples_", "save_", "grid_", "outdir_", "directories_", "show_", "live_preview", "return_",
    "enable_pnginfo", "add_", "export_", "webp_", "jpeg_", "do_not_", "notification_", "memmon_",
)  # fmt: skip
_SETTINGS: dict[str, tuple[Any, ...]] = {"sd_vae": ("automatic", "none", "")}  # what asks nothing


def check_settings(settings: dict[str, Any], done: tuple[str, ...]) -> None:
    """Refuses settings for a request that would change pictures elsewhere and cannot here.

    Raises:
        ParameterError: of "override_settings", naming the setting.
    """
    for name, value in settings.items():
        known = name in done or name.startswith(_HARMLESS) or value is None
        if not known and not asks_nothing(value, _SETTINGS.get(name, ())):
            raise ParameterError(
                "override_settings", f"cannot set {name[:80]!r}; it sets {' and '.join(done)}"
            )
