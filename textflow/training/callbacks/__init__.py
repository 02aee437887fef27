"""Callbacks of a training run: checkpoints, progress and sample texts."""
