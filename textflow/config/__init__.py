"""Recipes: parsing, validation, overlays and the trust boundary."""
