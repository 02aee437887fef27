"""A run that is pushed to the Hub is sampled, scored and diagnosed by its name there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants

from tests.helpers.hub_cache import add_commit, use_cache
from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.config.hub import fetch_run

pytestmark = pytest.mark.integration


def content(file: Any) -> bytes:
    return file if isinstance(file, bytes) else Path(file).read_bytes()


class LocalHub:
    """Stands for the Hub: commits go into the cache that its client reads."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.private = cache, False
        self.commits: list[list[str]] = []

    def create_repo(self, name: str, private: bool, exist_ok: bool) -> Any:
        self.private = private
        return SimpleNamespace(repo_id=name if "/" in name else f"ann/{name}")

    def create_commit(self, repo: str, operations: list[CommitOperationAdd], commit_message: str) -> Any:
        contents = {part.path_in_repo: content(part.path_or_fileobj) for part in operations}
        self.commits.append(sorted(contents))
        oid = add_commit(self.cache, repo, contents)
        return SimpleNamespace(repo_url=f"https://huggingface.co/{repo}", oid=oid)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    made = LocalHub(use_cache(monkeypatch, tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    for name in ("create_repo", "create_commit"):
        monkeypatch.setattr(HfApi, name, lambda self, *args, of=getattr(made, name), **options: of(*args, **options))
    return made


def test_a_pushed_run_is_sampled_scored_and_diagnosed_by_its_name(
    trained_run: Path, hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(trained_run), "ann/words", "--private", "--license", "mit"]) == 0
    out = capsys.readouterr().out
    assert "textflow sample hf:ann/words@" in out and hub.private
    assert {"README.md", "recipe.yaml", "model.safetensors", "metrics.csv"} <= set(hub.commits[0])
    assert not [name for name in hub.commits[0] if name.startswith(("state", "samples", "wandb", "codec"))]
    assert main(["sample", str(trained_run), "-n", "2", "--steps", "2"]) == 0
    own = capsys.readouterr().out
    assert main(["sample", "hf:ann/words", "-n", "2", "--steps", "2"]) == 0
    assert capsys.readouterr().out == own
    scorer = str(save_scorer(tmp_path / "scorer"))
    assert main(["eval", "hf:ann/words", "--steps", "1", "-n", "3", "--scorer", scorer, "--device", "cpu"]) == 0
    assert main(["diagnose", "hf:ann/words", "--measures", "margins", "-n", "4"]) == 0
    run = fetch_run("hf:ann/words")
    assert list((run / "eval").glob("*.json")) and (run / "diagnostics" / "diagnose.json").is_file()


def test_the_card_names_the_run_on_the_hub(hub: LocalHub) -> None:
    assert main(["push", "demo", "hf:stories"]) == 0
    card = next(hub.cache.glob("models--ann--stories/snapshots/*/README.md")).read_text()
    assert 'textflow.load("hf:ann/stories")' in card and "load_file" not in card and "placeholder" in card


def test_a_push_without_a_token_is_one_line(hub: LocalHub, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    fails(["push", "demo", "ann/stories"], "no token for hf:ann/stories: log in with `hf auth login`, or set HF_TOKEN")
    assert not hub.commits


def test_a_push_without_a_network_is_one_line(hub: LocalHub, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: HfApi, *args: Any, **options: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(HfApi, "create_repo", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fails(["push", "demo", "ann/stories"], "no answer from the Hub for hf:ann/stories", "Name or service not known")


def test_only_a_run_is_pushed(hub: LocalHub, fails: Fails, tmp_path: Path) -> None:
    fails(["push", str(tmp_path), "ann/stories"], "holds no trained run: recipe.yaml is missing")
    assert not hub.commits
