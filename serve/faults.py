"""What an error of the pipeline means for the job that it befell."""


def is_exhausted(error: Exception) -> bool:
    """Whether there was too little memory."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def told(error: Exception) -> tuple[int, str]:
    """The status and the words that a client is told."""
    if is_exhausted(error):
        return 503, "the device has not enough memory for this job"
    if isinstance(error, ValueError):
        return 422, str(error)
    return 500, f"the job failed: {type(error).__name__}"
