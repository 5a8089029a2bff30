"""How fast Gloss is beside plain Transformers on equal work: ratios in one run, never seconds
alone. See ``python -m benchmarks``.
"""
