"""The mathematics: schedules, losses, guidance, solvers, the sampling loop; pure functions."""
