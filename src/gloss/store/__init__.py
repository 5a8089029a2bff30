"""Activations on disk and in memory, and the records that make stages resumable."""
