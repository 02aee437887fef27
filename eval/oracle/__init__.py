"""Comparison of samplers and escapes on oracle tasks."""
