"""Files and repositories from outside run no code."""

import ast
import hashlib
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config

from tests.helpers.user_errors import Fails, refused
from textflow.codecs import T5Codec
from textflow.data import HFTokenizer, HubDataset, Tokenizer
from textflow.metrics import Scorer

ROOT = Path(__file__).parents[2]
CODE = "import pathlib; pathlib.Path({mark!r}).write_text('code ran')\n"


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (CODE.format(mark=str(self.mark)),)


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Place and dotted name of every call in the tree."""
    for folder in ("textflow", "cli", "eval"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> Any:
    """Value of a keyword argument, the name of a variable in its place, or None without one."""
    value = next((argument.value for argument in call.keywords if argument.arg == name), None)
    return value.id if isinstance(value, ast.Name) else value and ast.literal_eval(value)


def runs_no_code(location: str, call: ast.Call) -> bool:
    """True for a call of from_pretrained that runs code of a repository only where the user trusts it by name."""
    if "external/image_decoder" in location:  # diffusers' own classes
        return keyword(call, "use_safetensors") is True
    return keyword(call, "trust_remote_code") == ("trusts_code" if "external/language_model" in location else False)


FORBIDDEN = {"pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "eval", "exec", "os.system"}


def test_the_source_unpickles_nothing_and_runs_no_code_of_files_or_repositories() -> None:
    every_call = list(calls())
    loads = [(location, call) for location, name, call in every_call if name == "torch.load"]
    pretrained = [(location, call) for location, name, call in every_call if name.split(".")[-1] == "from_pretrained"]
    assert len(loads) >= 3 and len(pretrained) >= 3
    bad = [location for location, call in loads if keyword(call, "weights_only") is not True]
    for location, name, call in every_call:
        bad += [location] * (name == "np.load" and keyword(call, "allow_pickle") is not False)
        bad += [location] * (name in FORBIDDEN or name.endswith((".extractall", ".extract")))
        bad += [location] * (keyword(call, "trust_remote_code") is True)
    bad += [location for location, call in pretrained if not runs_no_code(location, call)]
    assert bad == []


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
def test_code_in_a_checkpoint_is_not_run(
    tmp_path: Path, mark: Path, form: Callable[[Any, Path], None], fails: Fails
) -> None:
    form(Evil(mark), tmp_path / "checkpoint_9")
    fails(["convert", "elf", str(tmp_path / "checkpoint_9"), str(tmp_path / "run")], "checkpoint_9")
    assert not (tmp_path / "run").exists()


@pytest.mark.integration
def test_code_in_a_state_whose_checksum_is_right_is_not_run(run: Path, mark: Path, fails: Fails) -> None:
    state = run / "state" / "step-00000012"
    complete = {path: path.read_bytes() for path in state.iterdir()}
    original = torch.load(state / "state.pt", weights_only=True)
    torch.save(original | {"loops": Evil(mark)}, state / "state.pt")
    checksum = hashlib.sha256((state / "state.pt").read_bytes()).hexdigest()
    (state / "sha256.json").write_text(json.dumps({"state.pt": checksum}))
    try:
        argv = ["fit", str(run.parent / "teacher.yaml"), "--trainer.max_steps", "16"]
        fails(argv, "holds more than tensors and plain data, so it is not opened")
    finally:
        for path, data in complete.items():
            path.write_bytes(data)


@pytest.mark.parametrize("weights", [None, b"", bytes(100), b"weights\n", b"\x80\x02}q"])
def test_a_t5_encoder_with_code_or_damaged_weights_is_named(tmp_path: Path, mark: Path, weights: bytes | None) -> None:
    T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(tmp_path / "t5")
    file = tmp_path / "t5" / "pytorch_model.bin"
    message = "or a pickle with code, which is not run"
    if weights is None:
        torch.save({"shared.weight": Evil(mark)}, file)
    else:
        file.write_bytes(weights)
        message = "(its weights are damaged|EOFError|IndexError|KeyError)"
    with pytest.raises(ValueError, match=f"no T5 encoder at .*{message}"):
        T5Codec(32, str(tmp_path / "t5"), dim=8).load()


def with_code(folder: Path, mark: Path) -> Path:
    """A repository whose model and tokenizer are classes of its own."""
    folder.mkdir()
    code = CODE.format(mark=str(mark))
    (folder / "own.py").write_text(code + "class Own: pass\nclass OwnConfig: pass\n")
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Own", "auto_map": auto}))
    return folder


def test_a_tokenizer_or_scorer_that_needs_its_own_code_is_named(tmp_path: Path, mark: Path) -> None:
    folder = with_code(tmp_path / "repository", mark)
    refused(r"cannot load the tokenizer .*repository.*custom code.*name another", HFTokenizer, str(folder))
    refused(r"no scorer at .*custom code", Scorer, str(folder))
    (folder / "textflow_tokenizer.json").write_text(json.dumps({"class": "HFTokenizer", "options": {}}))
    refused("custom code", Tokenizer.load, folder)


def test_a_data_set_with_a_script_is_named(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(CODE.format(mark=str(mark)))
    for streaming in (False, True):
        with pytest.raises(ValueError, match="cannot load the data set"):
            list(HubDataset(str(folder), streaming=streaming).documents())
