"""Prints the examples: those of the target, and those of every AR whose folder is given."""

import sys
from pathlib import Path

from examples.how_to_be_fooled import of_ar, of_target
from examples.how_to_be_fooled.lab_rows import as_lines
from gloss.models import load_ar

parts = {name: example() for name, example in of_target.EXAMPLES.items()}
for folder in map(Path, sys.argv[1:]):
    half = load_ar(folder)
    parts |= {name: example(half) for name, example in of_ar.EXAMPLES.items()}
for name, part in parts.items():
    print(name, *as_lines(part), sep="\n    ", end="\n\n")
