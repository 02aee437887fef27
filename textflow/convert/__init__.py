"""Converters between published checkpoints and runs, one file a repository."""
