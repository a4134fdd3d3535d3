"""Models on disk and in memory, and changes to them: adapters, quantization, export."""
