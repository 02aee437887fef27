"""Values of keys that hold paths are not code, and the paths of a run hold in every folder."""

import sys
import types
from pathlib import Path

import pytest
from jsonargparse import Namespace

from tests.helpers.user_errors import refused
from textflow.config import paths, recipe
from textflow.config.overlays import differences
from textflow.config.paths import make_absolute
from textflow.config.trust import refuse_code, text_arguments
from textflow.data import JsonlPairs, WordLevel

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
    "tree",
    [
        {
            "trainer": {
                "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "test.out", "name": "test.logs"}}
            }
        },
        {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "test.run"}}]}},
        {"trainer": {"default_root_dir": "test.run"}},
        {"model": {"codec": {"init_args": {"name": "test.model"}}, "objective": {"mdlm": "textflow.run"}}},
        {"data": {"source": {"init_args": {"sources": {"test.txt": "Bible"}, "weights": {"test.txt": 1}}}}},
        {"data": {"source": {"verse_separator": "test.x"}, "tokenizer": {"words": "test.x", "eos_token": "test.x"}}},
        {"test.key": 3},  # a key of the first level is a section
    ],
)
def test_an_argument_that_is_text_in_every_class_is_not_a_name_of_code(tree: dict) -> None:
    refuse_code(tree, "a recipe")
    for key, value in tree.items():
        refuse_code(str(value), "the command line", key)
    refuse_code("test.yaml", "the command line", "config")


@pytest.mark.parametrize("key", ["data.files", "data.source.sources", "trainer.logger.save_dir", "run.folder"])
def test_code_below_a_key_of_text_is_still_refused(key: str) -> None:
    for value in ("{class_path: os.system}", {"a": {"class_path": "os.system"}}, {"source": "os.system"}):
        refused("names os.system, code from outside", refuse_code, value, "a recipe", key)
    assert not text_arguments() & {
        "class_path",
        "codec",
        "net",
        "source",
        "optimizer",
        "lr_lambda",
        "strategy",
        "plugins",
    }


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


def test_the_folders_of_an_encoder_an_mdlm_and_a_source_with_dots_in_its_name_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bert", "mdlm"):
        (tmp_path / name).mkdir()
    for name in ("a.txt", "gpt2"):
        (tmp_path / name).touch()
    codec = {"init_args": {"name": "./bert", "inner": {"codec": {"name": "gpt2"}}}}
    sources = {"test.txt": {"init_args": {"paths": "a.txt"}}}
    objective = {"init_args": {"mdlm": "mdlm"}}
    tree = {"model": {"init_args": {"codec": codec, "objective": objective}}, "data": {"source": {"sources": sources}}}
    make_absolute(tree)
    assert codec["init_args"] == {"name": str(tmp_path / "bert"), "inner": {"codec": {"name": "gpt2"}}}
    assert objective["init_args"]["mdlm"] == str(tmp_path / "mdlm")
    assert sources["test.txt"]["init_args"]["paths"] == str(tmp_path / "a.txt")


def test_moved_pairs_are_read_from_other_files_by_the_tokenizer_of_the_run(tmp_path: Path) -> None:
    source = {"class_path": "JsonlPairs", "init_args": {"paths": "gone.jsonl", "test_paths": "gone.jsonl"}}
    data = {"source": source, "seq_length": 24, "max_source_length": 12}
    WordLevel(8, words=["one", "two"]).save(tmp_path / "tokenizer")
    with paths.replace_files("moved.jsonl", tmp_path):
        module = recipe.make_data(data)
    assert module.source == JsonlPairs("moved.jsonl", test_paths="moved.jsonl")
    assert isinstance(module.tokenizer, WordLevel) and module.tokenizer.words == ["one", "two"]
    assert recipe.make_data(data).source == JsonlPairs("gone.jsonl", test_paths="gone.jsonl")


def test_an_mdlm_may_be_a_run_that_ships_or_lies_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree = {"model": {"objective": {"mdlm": "demo"}}}
    make_absolute(tree)
    assert (Path(tree["model"]["objective"]["mdlm"]) / "model.safetensors").is_file()
    monkeypatch.setattr(paths, "find_run", lambda name: tmp_path if name == "hf:ann/mdlm" else Path(name))
    tree = {"model": {"objective": {"mdlm": "hf:ann/mdlm"}}}
    make_absolute(tree)
    assert tree["model"]["objective"]["mdlm"] == str(tmp_path)


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
