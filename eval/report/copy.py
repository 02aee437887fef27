"""What the page says in words."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def words() -> dict[str, Any]:
    """Paragraphs by section, and terms with their meaning."""
    return yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))


def prose(name: str) -> str:
    """The paragraph of this name."""
    return str(words()["sections"][name])


def terms() -> dict[str, str]:
    """Words and their meaning."""
    return dict(words()["terms"])
