"""Recipes, data files, checkpoints and caches with random changes: named in a line, or harmless; never a hang.

The default run has some of them, `pytest -m slow tests/faults` has ten thousand.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.helpers.mutations import bytes_changes, changed, trees
from tests.helpers.processes import Commands, Done
from tests.helpers.recordings import part, recorded
from tests.helpers.tiny_recipe import write_recipe
from textflow.config.recipe import load_recipe, make_data
from textflow.data import Document, Source, shards, tokenize
from textflow.training.checkpoint_io import find_damage, list_states
from textflow.training.weights import read_weights

pytestmark = pytest.mark.integration

STEPS = ["--run.save_every", "2", "--run.sample_every", "4", "--trainer.enable_progress_bar", "false"]
LIMIT = 300.0  # seconds after which a command of a second hangs, however busy the machine is
FAST, SLOW = 9, 1700  # mutations of each of the six kinds


class Home(NamedTuple):
    """What mutations start from.

    Args:
        folder: with a recipe, its text and its cache.
        run: finished after four steps.
        half: the cache as it is after half of a build.
        texts: two samples of it.
        weights: after six steps.
    """

    folder: Path
    run: Path
    half: Path
    texts: str
    weights: dict[str, torch.Tensor]

    def fresh(self, codec: bool = False, run: bool = False) -> Path:
        """The run folder as it was: whole, with its codec alone, or not there."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        if run:
            shutil.copytree(self.run, self.folder / "run")
        elif codec:
            shutil.copytree(self.run / "codec", self.folder / "run" / "codec")
        return self.folder / "run"


@pytest.fixture(scope="module")
def home(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("home")
    teacher = write_recipe(folder)
    assert commands.run("fit", str(teacher), *STEPS, "--trainer.max_steps", "4").code == 0
    shutil.copytree(folder / "run", folder / "finished")
    assert commands.run("fit", str(teacher), *STEPS, "--trainer.max_steps", "6").code == 0
    weights = load_file(folder / "run" / "model.safetensors")
    texts = sampled(commands, folder / "finished").out
    return Home(folder, folder / "finished", interrupted(folder), texts, weights)


@dataclass(frozen=True)
class Broken(Source):
    """A source that breaks off after forty documents."""

    source: Source

    def documents(self) -> Iterator[Document]:
        yield from islice(self.source.documents(), 40)
        raise RuntimeError("broken off")

    def key(self) -> str:
        return self.source.key()


def interrupted(folder: Path) -> Path:
    """The cache with shards of a few documents in the place of the rows."""
    half = folder / "half"
    shutil.copytree(folder / "cache" / "tokenizers", half / "tokenizers")
    (half / "rows").mkdir()
    data = make_data(
        load_recipe([str(folder / "teacher.yaml"), "--data.cache", str(half), "--data.num_proc", "1"]).data
    )
    data.source = Broken(data.source)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="broken off"):
        patch.setattr(tokenize, "MAX_CHARACTERS", 300)
        patch.setattr(shards, "MAX_CHARACTERS", 900)
        data.prepare_data()
    assert len(kept(half)) > 5
    return half


def kept(cache: Path) -> list[Path]:
    """The shards of an interrupted build."""
    return sorted(cache.glob("rows/*.building/shard-*.npz"))


def sampled(commands: Commands, run: Path) -> Done:
    return commands.run("sample", str(run), "-n", "2", "--steps", "2", "--device", "cpu", limit=LIMIT)


def sound(done: Done, what: object) -> None:
    """It went well, or one line says what is wrong; nothing was killed, nothing was unforeseen."""
    assert not done.late, f"hangs: {what}"
    assert done.code in (0, 2), f"{what}\n{done.err}"
    assert "Traceback" not in done.err, f"{what}\n{done.err}"
    if done.code:
        line = done.err.strip().splitlines()[-1]
        assert re.match(r"textflow (fit|sample|convert): \S", line) and len(line) < 2000, f"{what}\n{done.err}"


def no_half(run: Path, harmed: Path | None = None) -> None:
    """A run folder holds whole states and weights, or none, whatever a mutation made of the file that it harmed."""
    assert not [path for path in run.rglob(".*.tmp")]
    assert all(
        find_damage(state) is None for state in list_states(run) if harmed is None or state not in harmed.parents
    )
    if (weights := run / "model.safetensors").is_file():
        assert list_states(run)
        if weights != harmed:
            read_weights(weights)


def mutate(examples: int, mutants: st.SearchStrategy[Any], test: Callable[..., None]) -> None:
    """Tests so many mutations, the same at every run.

    Args:
        examples: how many.
        mutants: draws the arguments of the test.
        test: of one mutation.
    """
    tested = 0

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(mutants)
    def one(mutant: Any) -> None:
        nonlocal tested
        test(*mutant)
        tested += 1

    one()
    assert tested >= examples


def harm(contents: dict[Any, bytes], often: list[Any] | None = None) -> st.SearchStrategy[tuple[Any, Any]]:
    """A file and what is done to it, which changes it.

    Args:
        contents: of the files.
        often: the files, some more than once; default: each alike.
    """
    drawn = st.tuples(st.sampled_from(often or sorted(contents)), bytes_changes())
    return drawn.filter(lambda mutant: changed(contents[mutant[0]], mutant[1]) != contents[mutant[0]])


def mutated_recipe(commands: Commands, home: Home, text: str | bytes) -> None:
    run, file = home.fresh(codec=True), home.folder / "mutant.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = ["--run.folder", str(run), *STEPS, "--trainer.max_steps", "4"]
    apart = home.folder / "apart"  # a mutant may name a place to keep rows, beside it
    apart.mkdir(exist_ok=True)
    sound(commands.run("fit", str(file), *words, limit=LIMIT, folder=apart), text)
    no_half(run)


def small(text: str) -> bool:
    """Whether a recipe asks for no net of its class's own, large size; one that cannot be read asks for none."""
    try:
        tree = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return True
    try:
        return {"width", "depth"} <= tree["model"]["init_args"]["net"]["init_args"].keys()
    except (KeyError, TypeError, AttributeError):
        return "class_path: ELF" not in text and "DiT" not in text


def kinds(folder: Path) -> dict[str, bytes]:
    """The text in the three forms that are read."""
    texts, table = (folder / "text.txt").read_text().split("\n\n"), io.BytesIO()
    pq.write_table(pa.table({"text": texts}), table)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    return {"mine.txt": "\n\n".join(texts).encode(), "mine.jsonl": lines.encode(), "mine.parquet": table.getvalue()}


def mutated_data(commands: Commands, home: Home, name: str, changes: Any) -> None:
    run, file, cache = home.fresh(), home.folder / name, home.folder / "another"
    shutil.rmtree(cache, ignore_errors=True)
    file.write_bytes(changed(kinds(home.folder)[name], changes))
    words = ["--data.files", str(file), "--data.cache", str(cache), "--run.folder", str(run)]
    quick = ["--trainer.max_steps", "2", "--codec", str(home.run / "codec")]
    sound(commands.run("fit", str(home.folder / "teacher.yaml"), *words, *STEPS, *quick, limit=LIMIT), (name, changes))
    no_half(run)
    assert not list(cache.rglob("*.building"))


def mutated_file(commands: Commands, home: Home, file: Path, changes: Any, verb: str) -> None:
    """A damaged file of a run is named, or the run ends with the same weights and texts as without the damage."""
    run = home.fresh(run=True)
    (run / file).write_bytes(changed((run / file).read_bytes(), changes))
    free = file.name in ("recipe.yaml", "wandb_id")  # may change what comes out
    if verb == "sample":
        done = sampled(commands, run)
        sound(done, (verb, file, changes))
        no_half(run, run / file)
        assert free or done.code or done.out == home.texts, (file, changes)
        return
    words = ["fit", str(home.folder / "teacher.yaml"), "--run.folder", str(run), *STEPS, "--trainer.max_steps", "6"]
    done = commands.run(*words, limit=LIMIT)
    sound(done, (verb, file, changes))
    no_half(run, run / file if done.code else None)
    if not done.code:
        weights = load_file(run / "model.safetensors")
        assert weights.keys() == home.weights.keys(), (file, changes)
        assert all(torch.equal(weights[name], home.weights[name]) for name in weights), (file, changes, done.err)


def mutated_cache(commands: Commands, home: Home, origin: Path, file: Path, changes: Any) -> None:
    """A damaged cache is named, or changes no weight."""
    run, cache = home.fresh(run=True), home.folder / "another"
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(origin, cache)
    (cache / file).write_bytes(changed((cache / file).read_bytes(), changes))
    words = ["--data.cache", str(cache), "--run.folder", str(run), *STEPS, "--trainer.max_steps", "6"]
    done = commands.run("fit", str(home.folder / "teacher.yaml"), *words, limit=LIMIT)
    sound(done, (file, changes))
    no_half(run)
    if not done.code:
        assert not list(cache.rglob("*.building"))
        weights = load_file(run / "model.safetensors")
        assert all(torch.equal(weights[name], home.weights[name]) for name in weights), (file, changes)


def official(folder: Path) -> bytes:
    """A checkpoint of the published form."""
    tensors, _ = recorded("elf")
    weights = part(tensors, "weights.")
    torch.save({"params": weights, "ema_params1": weights, "step": 9}, folder / "checkpoint_9")
    return (folder / "checkpoint_9").read_bytes()


def mutated_official(commands: Commands, folder: Path, data: bytes) -> None:
    """A damaged foreign checkpoint is named, and no run is made of it."""
    shutil.rmtree(folder / "converted", ignore_errors=True)
    (folder / "checkpoint_9").write_bytes(data)
    done = commands.run("convert", "elf", str(folder / "checkpoint_9"), str(folder / "converted"), limit=LIMIT)
    sound(done, data[:40])
    assert (folder / "converted" / "model.safetensors").is_file() == (not done.code), done.err
    assert not done.code or not (folder / "converted").exists(), done.err


def files(folder: Path) -> list[Path]:
    """What stands in a folder, large files more often: they hold more bytes that can change."""
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return found + [path for path in found if (folder / path).stat().st_size > 4096] * 2


SIZES = [FAST, pytest.param(SLOW, marks=pytest.mark.slow)]


@pytest.mark.parametrize("examples", SIZES)
def test_a_recipe_with_other_keys_and_values(commands: Commands, home: Home, examples: int) -> None:
    text = (home.folder / "teacher.yaml").read_text()
    mutants = trees(text).filter(lambda mutant: small(mutant) and yaml.safe_load(mutant) != yaml.safe_load(text))
    mutate(examples, st.tuples(mutants), partial(mutated_recipe, commands, home))


@pytest.mark.parametrize("examples", SIZES)
def test_a_recipe_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    text = (home.folder / "teacher.yaml").read_bytes()
    mutants = bytes_changes().map(lambda changes: changed(text, changes)).filter(lambda mutant: mutant != text)
    mutants = mutants.filter(lambda mutant: small(mutant.decode(errors="replace")))
    mutate(examples, st.tuples(mutants), partial(mutated_recipe, commands, home))


@pytest.mark.parametrize("examples", SIZES)
def test_a_data_file_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    mutate(examples, harm(kinds(home.folder)), partial(mutated_data, commands, home))


@pytest.mark.parametrize("examples", SIZES)
def test_a_run_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    found, verbs = files(home.run), st.sampled_from(["fit", "sample"])
    mutants = harm({file: (home.run / file).read_bytes() for file in found}, found)
    drawn = st.tuples(mutants, verbs).map(lambda mutant: (*mutant[0], mutant[1]))
    mutate(examples, drawn, partial(mutated_file, commands, home))


@pytest.mark.parametrize("examples", SIZES)
def test_a_cache_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    """One that is whole, or one whose build goes on."""
    whole = [(home.folder / "cache", file) for file in files(home.folder / "cache")]
    halves = [(home.half, path.relative_to(home.half)) for path in kept(home.half)]
    contents = {(cache, file): (cache / file).read_bytes() for cache, file in (*whole, *halves)}
    mutants = harm(contents, whole) | harm(contents, halves)
    mutate(examples, mutants.map(lambda mutant: (*mutant[0], mutant[1])), partial(mutated_cache, commands, home))


@pytest.mark.parametrize("examples", SIZES)
def test_a_foreign_checkpoint_with_other_bytes(commands: Commands, tmp_path: Path, examples: int) -> None:
    data = official(tmp_path)
    mutants = bytes_changes().map(lambda changes: changed(data, changes)).filter(lambda mutant: mutant != data)
    mutate(examples, st.tuples(mutants), partial(mutated_official, commands, tmp_path))


def test_the_log_of_a_run_that_was_mutated_is_read(home: Home) -> None:
    with open(home.run / "metrics.csv") as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"1", "2", "3", "4"}
