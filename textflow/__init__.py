"""textflow: train, watch and distil text generators over continuous latents."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load`, and the words of a call; torch is imported when one is asked for."""
    if name == "load":
        from textflow.run_folder import load

        return load
    if name in ("Batch", "Given", "Posterior"):
        from textflow import types

        return getattr(types, name)
    raise AttributeError(f"module 'textflow' has no attribute {name!r}")
