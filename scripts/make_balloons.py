"""Draws fifty pictures of hot-air balloons, with captions, for `scripts.prepare`.

python -m scripts.make_balloons --out=runs/balloons
"""

from pathlib import Path

from absl import flags

from dg2_jax.data import balloons
from dg2_jax.scripts.command import command

_OUT = flags.DEFINE_string("out", "runs/balloons", "Gets the pictures.")
_COUNT = flags.DEFINE_integer("count", 50, "How many.", lower_bound=1)


def run() -> None:
    """Draws them all."""
    print(f"{_COUNT.value} pictures in {balloons.draw(Path(_OUT.value), _COUNT.value)}")


if __name__ == "__main__":
    command(run)
