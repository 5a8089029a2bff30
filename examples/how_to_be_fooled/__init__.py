"""The lab examples of docs/how_to_be_fooled.md. Each is one function; what it returns is what the
page shows, and tests hold the page to it.

    python -m examples.how_to_be_fooled                                     # the shipped target's
    python -m examples.how_to_be_fooled gloss-runs/smoke/ar_sft/checkpoint  # its AR's, too

Documents of seed 1 are read and scored, documents of seed 2 are what classifiers are fitted on.
Explanations are written by rule or by the lab's label writer, who sees the text and never the
activation: whatever these score, no activation was read for it."""
