"""Routes validate and enqueue; the work is done behind `dg2_jax.serve.engine`."""
