"""The text as the denoisers of this project use it."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float

KeysValues = tuple[Float[Array, "b l _ _"], Float[Array, "b l _ _"]]


class Conditioning(NamedTuple):
    """What depends on the text alone; the first axis of every leaf is the batch."""

    pooled: Float[Array, "b e"]  # mean token, projected; added to the time embedding
    mask: Bool[Array, "b l"]
    keys_values: tuple[KeysValues, ...]  # one entry per block that attends to the text
