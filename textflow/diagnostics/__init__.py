"""Diagnostics: where and why a generator fails."""
