"""Recorded sampling trajectories: record, read and replay."""
