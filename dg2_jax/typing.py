"""Shapes of the arrays that pass between the parts, named once.

The library's functions are annotated with these aliases; the tests turn on jaxtyping's import hook
(`tests/conftest.py`), so that a wrong shape or dtype fails there at the call.
"""

from jaxtyping import Array, Bool, Float, Int, Key

Pixels = Float[Array, "b h w 3"]  # pictures in [-1, 1]
Latent = Float[Array, "b h w c"]  # scaled latents, about unit variance
Time = Int[Array, "b"]  # training timesteps, 0 (least noise) to T - 1
Context = Float[Array, "b l d"]  # text token embeddings
ContextMask = Bool[Array, "b l"]  # True where a token is real
Keys = Key[Array, "b"]  # one random key per image

__all__ = ["Context", "ContextMask", "Keys", "Latent", "Pixels", "Time"]
