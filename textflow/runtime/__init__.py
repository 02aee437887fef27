"""Process-level helpers: atomic files, fingerprints, distributed ranks and devices."""
