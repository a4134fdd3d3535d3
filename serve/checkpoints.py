"""Models and their sets of weights as one list, for interfaces that know models only."""

from typing import Any, NamedTuple

from dg2_jax.serve.context import Context


class Checkpoint(NamedTuple):
    """What their clients choose from: a model and a set of its weights.

    Attributes:
        name: the model's; with "-raw" or "-fast" for weights that are not its usual ones.
        model: the model's name.
        weights: the set.
        hash: of the weights.
        sampling: the defaults for these weights.
    """

    name: str
    model: str
    weights: str
    hash: str | None
    sampling: dict[str, Any]

    @property
    def title(self) -> str:
        """What clients show and send."""
        return f"{self.name} [{self.hash}]" if self.hash else self.name


def checkpoints(context: Context) -> list[Checkpoint]:
    """Those of all models, the default one first."""
    return [
        Checkpoint(
            model["name"] if i == 0 else f"{model['name']}-{weights}",
            model["name"],
            weights,
            model["hashes"][weights],
            model["sampling"].get(weights, {}),
        )
        for model in context.models.describe()
        for i, weights in enumerate(model["weights"])
    ]


def checkpoint_of(context: Context, model: str, weights: str) -> Checkpoint:
    """That of a set of a model's weights."""
    found = [c for c in checkpoints(context) if (c.model, c.weights) == (model, weights)]
    return found[0] if found else Checkpoint(model, model, weights, None, {})
