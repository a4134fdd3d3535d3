"""Configurations that ship: each file has `get_config()`; `--config=NAME` takes one by name."""
