"""The parts of scripts/check_accelerator.py: each measures one thing, in a process of its own."""
