"""Neural networks (Flax NNX)."""
