"""What a network predicts (epsilon, v or x0) and how each follows from another.

With x = α x₀ + σ ε and v = α ε - σ x₀ (Salimans and Ho, arXiv 2202.00512, appendix D):

    x₀ = (x - σ ε)/α = α x - σ v        ε = (x - α x₀)/σ = σ x + α v
"""

from jaxtyping import Array, Float

PREDICTION_TYPES: tuple[str, ...] = ("epsilon", "v_prediction", "sample")

Coefficient = Float[Array, "#b 1 1 1"] | Float[Array, ""] | float


def check(prediction_type: str) -> None:
    """Raise ValueError unless `prediction_type` is one of `PREDICTION_TYPES`."""
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"prediction_type must be one of {', '.join(PREDICTION_TYPES)}; got {prediction_type!r}"
        )


def target(
    prediction_type: str,
    x0: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
    alpha: Coefficient,
    sigma: Coefficient,
) -> Float[Array, "b h w c"]:
    """What the network should output at the level (α, σ)."""
    check(prediction_type)
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return alpha * noise - sigma * x0
    return x0


def to_x0(
    prediction_type: str,
    x: Float[Array, "b h w c"],
    output: Float[Array, "b h w c"],
    alpha: Coefficient,
    sigma: Coefficient,
) -> Float[Array, "b h w c"]:
    """The estimate of x₀ implied by an output at the level (α, σ); α > 0 for epsilon."""
    check(prediction_type)
    if prediction_type == "epsilon":
        return (x - sigma * output) / alpha
    if prediction_type == "v_prediction":
        return alpha * x - sigma * output
    return output
