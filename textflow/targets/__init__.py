"""Targets: what a student learns from its teacher."""
