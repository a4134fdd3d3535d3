"""From settings to pictures: the plan, the compiled program, editing."""
