"""Benchmarks: each part against its straightforward form, both in one run, alternating, medians and spread."""
