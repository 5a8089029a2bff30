"""The laboratory: a micro-world with known truth, a tiny target model trained on it, labels and judged claims."""
