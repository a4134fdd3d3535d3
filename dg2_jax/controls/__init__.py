"""How controls are declared and checked; `dg2_jax.settings` declares those of an image."""
