"""Values of keys that hold paths are no code, and the paths of a run hold in every folder."""

import sys
import types
from pathlib import Path

import pytest
from jsonargparse import Namespace

from tests.helpers.user_errors import refused
from textflow.config import recipe
from textflow.config.overlays import differences
from textflow.config.paths import make_absolute
from textflow.config.trust import refuse_code

MODULES = ("test", "code", "email", "random", "regex", "bible")


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of these names can be imported."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


@pytest.mark.parametrize("name", [f"{name}.{suffix}" for name in MODULES for suffix in ("txt", "jsonl")])
def test_a_file_named_like_a_module_is_no_code(name: str) -> None:
    for key in ("data.files", "data.source.init_args.paths", "data.source.val_paths", "run.folder", "codec", "teacher"):
        for arguments in ([f"--{key}", name], [f"--{key}={name}"], [f"--{key}", f"[{name}, other.txt]"]):
            for found, value in recipe.split_overrides(arguments):
                refuse_code(value, "the command line", found)
    refuse_code({"data": {"files": [name]}, "run": {"folder": name}}, "a recipe")
    source = {"class_path": "HubPairs", "init_args": {"name": "wmt", "source_field": "test.de"}}
    mixture = {"class_path": "Mixture", "init_args": {"sources": {"a": {"init_args": {"paths": [name]}}, "b": source}}}
    refuse_code({"data": {"source": mixture}}, "a recipe")


@pytest.mark.parametrize(
    "key", ["data.source", "data.tokenizer", "model.init_args.codec", "trainer.logger", "model.net.init_args.x", "data"]
)
def test_a_key_that_takes_a_class_is_still_checked(key: str) -> None:
    for value in ("os.system", "{class_path: os.system}", "[os.system]", "{files: x, source: os.system}"):
        for found, text in recipe.split_overrides([f"--{key}", value]):
            refused("names os.system, code from outside", refuse_code, text, "the command line", found)


def test_relative_data_paths_become_absolute_and_names_of_the_hub_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.txt", "words"):
        (tmp_path / name).touch()
    parts = {"a": {"init_args": {"paths": ["mine.txt", "*.md", "~/x"]}}, "b": {"init_args": {"name": "gpt2"}}}
    source = Namespace(init_args=Namespace(sources=parts))  # type: ignore[no-untyped-call]
    tree = Namespace(data=Namespace(files="mine.txt", cache="c", source=source))  # type: ignore[no-untyped-call]
    make_absolute(tree)
    assert (tree.data.files, tree.data.cache) == (str(tmp_path / "mine.txt"), str(tmp_path / "c"))
    assert parts["a"]["init_args"]["paths"] == [str(tmp_path / "mine.txt"), str(tmp_path / "*.md"), "~/x"]
    assert parts["b"]["init_args"]["name"] == "gpt2"


def test_a_folder_whose_name_is_not_utf8_is_refused_before_it_is_in_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mine.txt").touch()
    for data in ({"files": "mine.txt"}, {"files": ["a.txt", "mine.txt"]}, {"cache": "c"}):
        refused(r"data\.\w+: b'.*caf\\xe9/.*' is not UTF-8, .*rename the folder", make_absolute, Namespace(data=data))


def test_a_run_resumes_where_its_text_was_named_relatively_or_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.txt", "other.txt"):
        (tmp_path / name).touch()
    absolute = f"data: {{files: {tmp_path}/mine.txt}}"
    assert differences("data: {files: mine.txt}", absolute) == []
    assert differences("data: {files: [/gone/mine.txt]}", f"data: {{files: [{tmp_path}/mine.txt]}}") == []
    assert differences(f"data: {{files: {tmp_path}/other.txt}}", absolute) != []
    assert differences("data: {files: /gone/yours.txt}", absolute) != []
