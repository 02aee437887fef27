"""Worlds whose posterior is exact: a Codec and a Denoiser each."""
