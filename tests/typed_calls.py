"""What type checkers know of the controls: `make lint` fails where mypy misses one of these.

Each "type: ignore" below is an error that mypy must see, since it reports those that are unused.
"""

from dg2_jax import Pipeline


def calls(pipe: Pipeline) -> None:
    """Never run."""
    pipe("a lake", "fog", 2, 20, 2.5, "ddim", 7, "raw", eta=0.5, reuse_every=2, width=None)
    pipe("a lake", guidance_interval=(0.2, 0.9), upscale=2, inpaint_area="only_masked")
    pipe(anagram=[("a lake", "identity"), ("a hill", "rot180")], progress=True)
    pipe("a lake", eta="much")  # type: ignore[arg-type]
    pipe("a lake", guidance_interval=(0.2,))  # type: ignore[arg-type]
    pipe("a lake", etta=0.5)  # type: ignore[call-arg]
    pipe("a lake", generator=None)  # type: ignore[call-arg]
    pipe.sampler(eta=0.5, height=128)
    pipe.sampler(upscale=2)  # type: ignore[call-arg]
    pipe.sampler(height=128.0)  # type: ignore[arg-type]
