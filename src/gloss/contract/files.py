"""Names of files that several layers read or write."""

RESULTS_NAME = "results.json"
"""The evaluation of a run, in its folder."""
