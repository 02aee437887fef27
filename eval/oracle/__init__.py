"""Samplers and escapes compared on oracle tasks."""
