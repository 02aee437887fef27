"""The configuration beside published weights, config.json, with checked types."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class CheckpointConfig(NamedTuple):
    """A checkpoint's own configuration, or one of its sections; an error names the file and the key.

    Args:
        file: config.json.
        content: values by key.
        section: keys of the section with a dot behind, such as `model.`; empty for the whole file.
    """

    file: Path
    content: Mapping[str, Any]
    section: str = ""

    def part(self, key: str) -> "CheckpointConfig":
        """A section; empty if there is none."""
        found = self.content.get(key, {})
        if not isinstance(found, dict):
            raise self.error(key, found, "an object with names")
        return CheckpointConfig(self.file, found, f"{self.section}{key}.")

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number; without a default it must be there.

        Args:
            key: its name.
            default: value where the key is missing.
            least: smallest value.
        """
        value = self.content.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(key, value, f"a whole number of at least {least}")
        return value

    def boolean(self, key: str) -> bool:
        """A truth value; false where the key is missing."""
        value = self.content.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def number(self, key: str) -> float | None:
        """A number of at least 0; None where the key is missing or null."""
        value = self.content.get(key)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0):
            raise self.error(key, value, "a number of at least 0")
        return value

    def error(self, key: str, value: object, needed: str) -> ValueError:
        """The error for a value that does not fit."""
        return ValueError(f"{self.file} has {self.section}{key} {value!r}; it needs {needed}")


def read_config(weights: Path) -> CheckpointConfig:
    """The content of config.json beside a file of weights; empty if there is none."""
    file = weights.with_name("config.json")
    if not file.is_file():
        return CheckpointConfig(file, {})
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not an object with names; download it again")
    return CheckpointConfig(file, content)
