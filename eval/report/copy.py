"""Texts of the page."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def load_copy() -> dict[str, Any]:
    """Paragraphs by section, and terms with their meaning."""
    return yaml.safe_load(Path(__file__).with_name("copy.yaml").read_text(encoding="utf-8"))


def paragraph(name: str) -> str:
    """The paragraph of this name."""
    return str(load_copy()["sections"][name])


def glossary() -> dict[str, str]:
    """Terms and their definitions."""
    return dict(load_copy()["terms"])
