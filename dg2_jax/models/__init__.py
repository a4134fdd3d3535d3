"""What a model is on disk and in memory, and what can be done to one."""
