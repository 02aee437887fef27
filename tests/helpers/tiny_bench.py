"""A size that runs in milliseconds."""

from textflow.eval.bench.sizes import BenchConfig, ModelSize

TINY = BenchConfig(ModelSize(16, 2, 2, 16, 8, 40, 1, 24, 10, 6), steps=2)
