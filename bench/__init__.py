"""Benchmarks: one file a question, results kept as dated JSON under results/."""
