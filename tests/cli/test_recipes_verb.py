"""`textflow recipes`: every recipe and overlay, a line each, with its title."""

from pathlib import Path

import pytest

from tests.helpers.user_errors import Fails
from textflow.cli.app import main

ROOT = Path(__file__).parents[2]


def test_every_recipe_is_listed_with_title(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["recipes"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) == {str(path.relative_to(ROOT)) for path in (ROOT / "recipes").rglob("*.yaml")}
    for name, title in lines.items():
        assert (ROOT / name).read_text().startswith(f"# {title}\n")


def test_a_folder_without_recipes_is_an_error(tmp_path: Path, fails: Fails) -> None:
    fails(["recipes", "--folder", str(tmp_path)], "no recipes in")
