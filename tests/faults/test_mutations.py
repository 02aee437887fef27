"""Recipes, data files, checkpoints and caches with random changes: named in a line, or harmless; never a hang.

The default run has some of them, `pytest -m slow tests/faults/test_mutations.py` has ten thousand. With a folder in the
environment variable MUTATIONS_LOG each result is kept there, and those that passed are not run again.
"""

import csv
import io
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.helpers.mutated_runs import LIMIT, STEPS, Home, files, harm, kept, make_home, mutate, no_half, sampled, sound
from tests.helpers.mutations import bytes_changes, changed, trees
from tests.helpers.processes import Commands
from tests.helpers.recordings import part, recorded

pytestmark = pytest.mark.integration

FAST, SLOW = 2, 1700  # mutations of each of the six kinds


@pytest.fixture(scope="module")
def home(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(commands, tmp_path_factory.mktemp("home"))


def mutated_recipe(commands: Commands, home: Home, text: str | bytes) -> None:
    run, file = home.fresh(codec=True), home.folder / "mutant.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    argv = ["--run.folder", str(run), *STEPS, "--trainer.max_steps", "4"]
    apart = home.folder / "apart"  # a mutant may name a place to keep rows, beside it
    apart.mkdir(exist_ok=True)
    sound(commands.run("fit", str(file), *argv, limit=LIMIT, folder=apart), text)
    no_half(run)


def small(text: str) -> bool:
    """True unless a readable recipe asks for a net of its class's default, large size."""
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
    argv = ["--data.files", str(file), "--data.cache", str(cache), "--run.folder", str(run)]
    quick = ["--trainer.max_steps", "2", "--codec", str(home.run / "codec")]
    sound(commands.run("fit", str(home.folder / "teacher.yaml"), *argv, *STEPS, *quick, limit=LIMIT), (name, changes))
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
    argv = ["fit", str(home.folder / "teacher.yaml"), "--run.folder", str(run), *STEPS, "--trainer.max_steps", "6"]
    done = commands.run(*argv, limit=LIMIT)
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
    argv = ["--data.cache", str(cache), "--run.folder", str(run), *STEPS, "--trainer.max_steps", "6"]
    done = commands.run("fit", str(home.folder / "teacher.yaml"), *argv, limit=LIMIT)
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


SIZES = [FAST, pytest.param(SLOW, marks=pytest.mark.slow)]


@pytest.mark.parametrize("examples", SIZES)
def test_a_recipe_with_other_keys_and_values(commands: Commands, home: Home, examples: int) -> None:
    text = (home.folder / "teacher.yaml").read_text()
    mutants = trees(text).filter(lambda mutant: small(mutant) and yaml.safe_load(mutant) != yaml.safe_load(text))
    mutate(examples, st.tuples(mutants), partial(mutated_recipe, commands, home), home.folder)


@pytest.mark.parametrize("examples", SIZES)
def test_a_recipe_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    text = (home.folder / "teacher.yaml").read_bytes()
    mutants = bytes_changes().map(lambda changes: changed(text, changes)).filter(lambda mutant: mutant != text)
    mutants = mutants.filter(lambda mutant: small(mutant.decode(errors="replace")))
    mutate(examples, st.tuples(mutants), partial(mutated_recipe, commands, home), home.folder)


@pytest.mark.parametrize("examples", SIZES)
def test_a_data_file_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    mutate(examples, harm(kinds(home.folder)), partial(mutated_data, commands, home), home.folder)


@pytest.mark.parametrize("examples", SIZES)
def test_a_run_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    results, verbs = files(home.run), st.sampled_from(["fit", "sample"])
    mutants = harm({file: (home.run / file).read_bytes() for file in results}, results)
    draws = st.tuples(mutants, verbs).map(lambda mutant: (*mutant[0], mutant[1]))
    mutate(examples, draws, partial(mutated_file, commands, home), home.folder)


@pytest.mark.parametrize("examples", SIZES)
def test_a_cache_with_other_bytes(commands: Commands, home: Home, examples: int) -> None:
    """One that is whole, or one whose build continues."""
    complete = [(home.folder / "cache", file) for file in files(home.folder / "cache")]
    halves = [(home.half, path.relative_to(home.half)) for path in kept(home.half)]
    contents = {(cache, file): (cache / file).read_bytes() for cache, file in (*complete, *halves)}
    mutants = harm(contents, complete) | harm(contents, halves)
    draws = mutants.map(lambda mutant: (*mutant[0], mutant[1]))
    mutate(examples, draws, partial(mutated_cache, commands, home), home.folder)


@pytest.mark.parametrize("examples", SIZES)
def test_a_foreign_checkpoint_with_other_bytes(commands: Commands, tmp_path: Path, examples: int) -> None:
    data = official(tmp_path)
    mutants = bytes_changes().map(lambda changes: changed(data, changes)).filter(lambda mutant: mutant != data)
    mutate(examples, st.tuples(mutants), partial(mutated_official, commands, tmp_path), tmp_path)


def test_the_log_of_a_run_that_was_mutated_is_read(home: Home) -> None:
    with open(home.run / "metrics.csv", encoding="utf-8") as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"1", "2", "3", "4"}
