"""Layers shared by networks and codecs: transformer blocks, fused forms and frozen modules."""
