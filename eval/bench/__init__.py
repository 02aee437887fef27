"""Benchmarks of each part against its reference implementation: alternating runs in one process, medians and spread."""
