"""Runs by their name on the Hub: found in its cache, links without code, and one line where there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

import textflow
from tests.helpers.hub_cache import add_commit, use_cache
from tests.helpers.user_errors import Fails, refused
from textflow.config.hub import fetch_run
from textflow.config.shipped import find_run

pytestmark = pytest.mark.integration

VERBS = [["sample"], ["eval"], ["diagnose"], ["compare"], ["report"], ["convert", "run"], ["order"], ["push"]]
ROOT = Path(__file__).parents[2]
DEMO = {
    str(path.relative_to(ROOT / "checkpoints/demo")): path.read_bytes()
    for path in (ROOT / "checkpoints/demo").rglob("*")
    if path.is_file()
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_cache(monkeypatch, tmp_path)


def response(kind: type[errors.HfHubHTTPError], status: int) -> Callable[..., Any]:
    """Stands for snapshot_download: raises an error with which the Hub answers."""

    def answer(*args: Any, **options: Any) -> None:
        raise kind("no", response=Mock(status_code=status, headers={}))

    return answer


def test_a_run_is_loaded_by_its_name_and_by_its_commit(hub: Path) -> None:
    commit = add_commit(hub, "ann/stories", DEMO)
    for name in ("hf:ann/stories", f"hf:ann/stories@{commit}", "hf:ann/stories@main"):
        assert textflow.load(name).weights().keys() == textflow.load("demo").weights().keys()
    assert find_run(Path("hf:ann/stories")).name == "stories"


def test_a_revision_is_another_folder(hub: Path) -> None:
    add_commit(hub, "ann/stories", DEMO)
    add_commit(hub, "ann/stories", DEMO | {"metrics.csv": b"step,name,value\n"}, branch="longer")
    first, second = fetch_run("hf:ann/stories"), fetch_run("hf:ann/stories@longer")
    assert first != second and not (first / "metrics.csv").exists() and (second / "metrics.csv").is_file()


def test_files_other_than_data_are_not_taken(hub: Path) -> None:
    code = {"hook.py": b"1 / 0", "model.pt": b"", "tokenizer/tokenizer.py": b"1 / 0", "tokenizer/vocab.pkl": b""}
    add_commit(hub, "ann/stories", DEMO | code)
    names = {path.name for path in fetch_run("hf:ann/stories").rglob("*")}
    assert not names & {Path(name).name for name in code} and "model.safetensors" in names


def test_a_recipe_from_the_hub_names_no_code(hub: Path) -> None:
    foreign = DEMO["recipe.yaml"].replace(b"textflow.nets.", b"os.path.")
    add_commit(hub, "ann/stories", DEMO | {"recipe.yaml": foreign})
    refused("code from outside textflow", textflow.load, "hf:ann/stories")


def test_what_a_command_writes_is_left_and_the_cache_of_the_hub_is_not_written(hub: Path) -> None:
    add_commit(hub, "ann/stories", DEMO)
    (fetch_run("hf:ann/stories") / "eval").mkdir()
    assert (fetch_run("hf:ann/stories") / "eval").is_dir() and not list(hub.rglob("eval"))


def test_a_repository_that_is_no_run_is_named(hub: Path, fails: Fails) -> None:
    add_commit(hub, "ann/bert", {"config.json": b"{}", "model.safetensors": DEMO["model.safetensors"]})
    fails(["sample", "hf:ann/bert"], "hf:ann/bert holds no run of textflow: recipe.yaml is missing", "textflow push")


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_of_a_run_looks_on_the_hub(verb: list[str], hub: Path, fails: Fails, tmp_path: Path) -> None:
    target = {"convert": ["hf", str(tmp_path / "out")], "push": ["ann/copy"]}.get(verb[0], [])
    fails([*verb, "hf:ann/none", *target], "hf:ann/none needs the Hub, and HF_HUB_OFFLINE is set", str(hub))


@pytest.mark.parametrize("words", [["fig6", "--run", "hf:ann/none"], ["systems", "hf:ann/none"]])
def test_figures_look_on_the_hub(words: list[str], hub: Path, fails: Fails) -> None:
    fails(["reproduce", *words], "hf:ann/none needs the Hub")


def test_a_teacher_and_a_codec_are_looked_for_on_the_hub(hub: Path, fails: Fails) -> None:
    fails(["distill", "fmlm", "--teacher", "hf:ann/none"], "hf:ann/none needs the Hub")
    fails(["fit", "small/elf", "--codec", "hf:ann/none"], "hf:ann/none needs the Hub")


@pytest.mark.parametrize(
    ("kind", "status", "line"),
    [
        (
            errors.RepositoryNotFoundError,
            401,
            "hf:ann/none is not on the Hub, or it is private: check the name",
        ),
        (errors.GatedRepoError, 403, "hf:ann/none is gated: accept its terms on its page, and log in"),
        (errors.RevisionNotFoundError, 404, "hf:ann/none has no revision 'v2': give a branch"),
        (errors.HfHubHTTPError, 403, "the Hub refuses hf:ann/none (status 403): log in with `hf auth login`"),
        (errors.HfHubHTTPError, 503, "no answer from the Hub for hf:ann/none: try again"),
    ],
)
def test_an_answer_of_the_hub_is_one_line(
    kind: Any, status: int, line: str, hub: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", response(kind, status))
    fails(["sample", "hf:ann/none@v2"], line)


def test_no_network_is_one_line(hub: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **options: Any) -> None:
        raise errors.LocalEntryNotFoundError("Got: ConnectError: [Errno -2] Name or service not known\nPlease check")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    fails(["sample", "hf:ann/none"], "no answer from the Hub for hf:ann/none", "network", "Name or service not known")


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:ann/.. ", "hf:../../etc"])
def test_a_name_that_is_none_is_refused(name: str, hub: Path) -> None:
    refused("is not the name of a repository; give hf:OWNER/NAME", fetch_run, name)
