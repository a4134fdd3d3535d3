"""What A1111 clients call things, and what they are here."""

from dg2_jax.diffusion.solvers import SOLVERS

SAMPLERS = {
    "Euler a": "euler_ancestral",
    "Euler": "euler",
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "Heun": "heun",
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "UniPC": "unipc",
    "LCM": "lcm",
}
SCHEDULERS = {
    "Karras": "karras",
    "Exponential": "exponential",
    "Uniform": "linspace",
    "SGM Uniform": "trailing",
    "DDIM": "leading",
}
UPSCALERS = {
    "R-ESRGAN 4x+": "x4plus",
    "R-ESRGAN 4x+ Anime6B": "x4plus-anime",
    "R-ESRGAN AnimeVideo": "animevideov3",
    "R-ESRGAN 2x+": "x2plus",
}
RESIZED = ("None", "Lanczos", "Nearest")  # enlarging without a network
# Those that enlarge latents for a second pass. Antialiasing has no part in enlarging, and the
# nearest cell is the exact one.
LATENT_UPSCALERS = {
    "Latent": "bilinear",
    "Latent (antialiased)": "bilinear",
    "Latent (bicubic)": "bicubic",
    "Latent (bicubic antialiased)": "bicubic",
    "Latent (nearest)": "nearest",
    "Latent (nearest-exact)": "nearest",
}
DEFAULT_UPSCALER = "Latent"  # of a second pass


def known_solver(name: str) -> str | None:
    """The solver that a sampler's name means, ours included; None where it means none here."""
    asked = name.lower().removeprefix("k_").strip()
    labels = {label.lower(): solver_name for label, solver_name in SAMPLERS.items()}
    return asked if asked in SOLVERS else labels.get(asked.replace("_", " "))


def spacing(name: str) -> str | None:
    """The spacing that a scheduler's name means; None where it means none here."""
    asked = name.lower().replace("_", " ").strip()
    return next((ours for label, ours in SCHEDULERS.items() if label.lower() == asked), None)


def split(name: str) -> tuple[str, str | None]:
    """A sampler's name that ends with a scheduler's ("DPM++ 2M Karras"), and that one's spacing."""
    for label, ours in SCHEDULERS.items():
        if name.lower().endswith(" " + label.lower()):
            return name[: -len(label)].strip(), ours
    return name, None


def solver(name: str) -> str:
    """The same as `known_solver` for what other programs wrote in a picture; the nearest there is.

    A suffix that means nothing here is left out, and DPM-Solver++(2M) stands for unknown ones.
    """
    words = name.split()
    shorter = (" ".join(words[:count]) for count in range(len(words), 0, -1))
    return next(filter(None, map(known_solver, shorter)), "dpmpp_2m")


def sampler(solver_name: str) -> str:
    """The A1111 name of a solver, its own name where there is none."""
    return next((label for label, name in SAMPLERS.items() if name == solver_name), solver_name)


def upscaler(name: str) -> str | None:
    """The network of an upscaler's name; None for plain resizing.

    Raises:
        KeyError: there is none of that name.
    """
    ours = {network: network for network in UPSCALERS.values()}
    return (dict.fromkeys(RESIZED) | UPSCALERS | ours)[name]
