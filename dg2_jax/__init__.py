"""dg2_jax: text-conditioned latent diffusion in JAX and Flax."""
