"""Weights and data of other projects."""
