"""The server: an HTTP API over one queue, and the page that uses it; `python -m serve`."""
