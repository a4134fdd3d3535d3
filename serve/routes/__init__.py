"""Routes validate and enqueue; the work is done behind `serve.engine`."""
