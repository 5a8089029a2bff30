"""What an explanation must beat, and what bounds it: constant predictions and linear probes."""

from gloss.baselines.probe import probe_accuracy

__all__ = ["probe_accuracy"]
