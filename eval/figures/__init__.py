"""Figures, one module each; matplotlib is imported on demand."""
