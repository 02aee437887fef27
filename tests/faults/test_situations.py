"""What people meet: commands of situations.yaml, each with its exit code and the line that it prints."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.processes import Commands, Done
from tests.helpers.situation import write_file
from tests.helpers.tiny_recipe import pairs, write_recipe
from tests.helpers.tiny_scorer import save_scorer

SITUATIONS: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("situations.yaml").read_text())
OPTIONS = ["--codec=null", "--model.codec=EmbeddingTable", "--model.codec.dim=8"]
OPTIONS += ["--model.objective.time_schedule=LogitNormal", "--trainer.max_steps=4"]
PIECES = ["--data.tokenizer", "SentencePiece", "--data.tokenizer.vocab_size", "280"]  # 256 of them are bytes


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder with a text, a recipe tiny.yaml, its run after four steps, and a scorer."""
    folder = tmp_path_factory.mktemp("world")
    teacher = write_recipe(folder).rename(folder / "first.yaml")
    tree = yaml.safe_load(teacher.read_text())
    tree["data"] |= {"files": str(folder / "text.txt"), "cache": str(folder / "cache"), "tokenizer": "WordLevel"}
    tree["run"]["folder"] = "run"
    shown = commands.run("fit", write_yaml(teacher, tree), *OPTIONS, "--print-config", folder=folder)
    (folder / "tiny.yaml").write_text("# tiny\n" + shown.out)
    assert commands.run("fit", "tiny.yaml", folder=folder).code == 0
    save_scorer(folder / "scorer")
    chinese(folder / "chinese", commands, ["fit", str(folder / "tiny.yaml"), "--data.files", "text.txt", *PIECES])
    (folder / "pairs").mkdir()
    recipe = str(pairs(folder / "pairs"))
    for name, count in (("train", 60), ("test", 12)):
        rows = ({"source": f"{i}", "target": f"\u5c71\u91cc\u6709{i}\u4eba"} for i in range(count))
        write_lines(folder / "pairs" / f"{name}.jsonl", [json.dumps(row) for row in rows])
    assert commands.run("fit", recipe, *OPTIONS, *PIECES[2:], folder=folder / "pairs").code == 0
    return folder


def chinese(folder: Path, commands: Commands, command: list[str]) -> None:
    """Fit a run of a text without spaces."""
    folder.mkdir()
    write_lines(folder / "text.txt", [f"\u5c71\u91cc\u6709{i}\u4e2a\u4eba\u3002\n" for i in range(200)])
    assert commands.run(*command, folder=folder).code == 0


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_yaml(path: Path, tree: Any) -> str:
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return str(path)


def run(commands: Commands, situation: dict[str, Any], world: Path, folder: Path) -> Done:
    """Run the command of a situation in a folder of its own, which holds the text, the recipe and what it needs."""
    folder.mkdir()
    for name in ("text.txt", "tiny.yaml", *situation.get("needs", [])):
        copy = shutil.copytree if (world / name).is_dir() else shutil.copy
        copy(world / name, folder / Path(name).name)
    for name, content in situation.get("files", {}).items():
        write_file(folder / name, content)
    command = situation["command"].replace("SCORED", "--scorer WORLD/scorer --device cpu --format csv")
    words = shlex.split(command.replace("WORLD", str(world)))
    parts = {"words": words, "environment": situation.get("environment", {})}
    parts |= {name: name in situation.get("output", "") for name in ("pipe", "ascii", "full")}
    options: dict[str, Any] = {"folder": str(folder), "limit": 300.0, "script": "tests.helpers.situation"}
    for number, watched in situation.get("interrupt", {}).items():
        options |= {"watch": str(folder / watched), "kill": 0.0, "interrupt": number}
    return commands.run(json.dumps(parts), **options)


def difference(situation: dict[str, Any], done: Done, folder: Path) -> str:
    """How a command ended otherwise than expected; empty if it did not."""
    printed, files = " ".join((done.out + done.err).split()), situation.get("holds", {})
    faults = [f"code {done.code}"] if done.code != situation.get("code", 0) or done.late else []
    faults += [f"no {line!r}" for line in as_list(situation.get("line")) if line not in printed]
    faults += [f"has {line!r}" for line in ["Traceback", *as_list(situation.get("without"))] if line in printed]
    faults += [
        f"{name} holds no {text!r}" for name, text in files.items() if not re.search(text, (folder / name).read_text())
    ]
    return f"{situation['name']}: {'; '.join(faults)}: {printed[-700:]}" if faults else ""


def as_list(lines: Any) -> list[str]:
    return [] if lines is None else lines if isinstance(lines, list) else [lines]


def test_the_situations_are_those_that_were_reported() -> None:
    assert len(SITUATIONS) == len({situation["name"] for situation in SITUATIONS}) >= 52
    assert set(range(1, 29)) <= {situation.get("number") for situation in SITUATIONS}
    keys = {"name", "number", "command", "needs", "files", "environment", "output", "interrupt"}
    keys |= {"code", "line", "without", "holds"}
    assert [situation["name"] for situation in SITUATIONS if not situation.keys() <= keys] == []


@pytest.mark.slow
@pytest.mark.integration
def test_every_situation_ends_as_expected(commands: Commands, world: Path, tmp_path: Path) -> None:
    wrong = []
    for number, situation in enumerate(SITUATIONS):
        folder = tmp_path / f"{number}"
        if fault := difference(situation, run(commands, situation, world, folder), folder):
            wrong.append(fault)
    assert wrong == [], "\n".join(wrong)
