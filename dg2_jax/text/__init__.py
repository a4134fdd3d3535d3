"""Prompts: their syntax, and the encoders that turn them into vectors."""
