"""Comparison of students and teachers at the same number of steps."""
