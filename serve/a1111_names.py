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
UPSCALERS = {
    "R-ESRGAN 4x+": "x4plus",
    "R-ESRGAN 4x+ Anime6B": "x4plus-anime",
    "R-ESRGAN AnimeVideo": "animevideov3",
    "R-ESRGAN 2x+": "x2plus",
}
RESIZED = ("None", "Lanczos", "Nearest")  # enlarging without a network


def solver(name: str | None) -> str:
    """The solver that comes nearest to a sampler's name; DPM-Solver++(2M) where none does.

    Our own names are understood as well.
    """
    asked = (name or "").lower().replace("k_", "").strip()
    for label, solver_name in sorted(SAMPLERS.items(), key=lambda item: -len(item[0])):
        if asked in (label.lower(), solver_name) or asked.startswith(label.lower() + " "):
            return solver_name
    return asked if asked in SOLVERS else "dpmpp_2m"


def sampler(solver_name: str) -> str:
    """The A1111 name of a solver, its own name where there is none."""
    return next((label for label, name in SAMPLERS.items() if name == solver_name), solver_name)


def upscaler(name: str) -> str | None:
    """The network of an upscaler's name; None for plain resizing."""
    if name in RESIZED:
        return None
    return UPSCALERS.get(name, name if name in UPSCALERS.values() else "x4plus")
