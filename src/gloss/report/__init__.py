"""One self-contained page, and tables for the terminal, from the files of a run.

Reads files only: ``results.json``, ``metrics.jsonl`` and ``samples.jsonl``; nothing is measured
here."""

from gloss.report.html_page import write_report
from gloss.report.terminal import example_panels, summary_table
