"""Runs, data and caches that mutations change, and the laws that every command keeps on them."""

import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.helpers.mutation_log import MutationLog
from tests.helpers.mutations import bytes_changes, changed
from tests.helpers.processes import Commands, Done
from tests.helpers.tiny_recipe import write_recipe
from textflow.config.recipe import load_recipe, make_data
from textflow.data import Document, Source, shards, tokenize
from textflow.training.checkpoint_io import find_damage, list_states
from textflow.training.weights import read_weights

STEPS = ["--run.save_every", "2", "--run.sample_every", "100", "--trainer.enable_progress_bar", "false"]
LIMIT = 300.0  # seconds after which a command of a second hangs, however busy the machine is
MAX_FAILURES = 20  # of one test, after which its other mutations are left out


class Home(NamedTuple):
    """The files that mutations change."""

    folder: Path  # with a recipe, its text and its cache
    run: Path  # finished after four steps
    half: Path  # the cache after half of a build
    texts: str  # two samples of the run
    weights: dict[str, torch.Tensor]  # after six steps

    def fresh(self, codec: bool = False, run: bool = False) -> Path:
        """Restore the run folder: complete, with only its codec, or removed."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        if run:
            shutil.copytree(self.run, self.folder / "run")
        elif codec:
            shutil.copytree(self.run / "codec", self.folder / "run" / "codec")
        return self.folder / "run"


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


def make_home(commands: Commands, folder: Path) -> Home:
    """Fit the run, its continuation and its interrupted cache in a folder."""
    teacher = write_recipe(folder)
    assert commands.run("fit", str(teacher), *STEPS, "--trainer.max_steps", "4").code == 0
    shutil.copytree(folder / "run", folder / "finished")
    assert commands.run("fit", str(teacher), *STEPS, "--trainer.max_steps", "6").code == 0
    weights = load_file(folder / "run" / "model.safetensors")
    texts = sampled(commands, folder / "finished").out
    return Home(folder, folder / "finished", interrupted(folder), texts, weights)


def kept(cache: Path) -> list[Path]:
    """The shards of an interrupted build."""
    return sorted(cache.glob("rows/*.building/shard-*.npz"))


def sampled(commands: Commands, run: Path) -> Done:
    return commands.run("sample", str(run), "-n", "2", "--steps", "2", "--device", "cpu", limit=LIMIT)


def sound(done: Done, what: object) -> None:
    """Require success, or one line that names the error: no hang, no unexpected exception."""
    assert not done.late, f"hangs: {what}"
    assert done.code in (0, 2), f"{what}\n{done.err}"
    assert "Traceback" not in done.err, f"{what}\n{done.err}"
    if done.code:
        line = done.err.strip().splitlines()[-1]
        assert re.match(r"textflow (fit|sample|convert): \S", line) and len(line) < 2000, f"{what}\n{done.err}"


def no_half(run: Path, harmed: Path | None = None) -> None:
    """Require complete states and weights, or none, in a run folder, except for the file that a mutation changed."""
    assert not [path for path in run.rglob(".*.tmp")]
    assert all(
        find_damage(state) is None for state in list_states(run) if harmed is None or state not in harmed.parents
    )
    if (weights := run / "model.safetensors").is_file():
        assert list_states(run)
        if weights != harmed:
            read_weights(weights)


def mutate(examples: int, mutants: st.SearchStrategy[Any], test: Callable[..., None], home: Path) -> None:
    """Run a test on so many different mutations, the same every time; a failure does not stop the others."""
    log, failures, tested = MutationLog(home), list[str](), set[str]()

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(mutants)
    def one(mutant: Any) -> None:
        key = log.key(mutant)
        assume(key not in tested)  # one that was drawn before does not count
        tested.add(key)
        if key in log.passed or len(failures) == MAX_FAILURES:
            return
        start, failure = time.monotonic(), ""
        try:
            test(*mutant)
        except Exception:
            failure = f"{mutant!r:.3000}\n{traceback.format_exc(limit=-3)}"
            failures.append(failure)
        log.write(key, failure, time.monotonic() - start)

    one()
    assert len(tested) >= examples and not failures, f"{len(failures)} of {len(tested)}:\n" + "\n\n".join(failures)


def harm(contents: dict[Any, bytes], often: list[Any] | None = None) -> st.SearchStrategy[tuple[Any, Any]]:
    """Draw a file and changes of its content; `often` lists the files, some more than once."""
    draws = st.tuples(st.sampled_from(often or sorted(contents)), bytes_changes())
    return draws.filter(lambda mutant: changed(contents[mutant[0]], mutant[1]) != contents[mutant[0]])


def files(folder: Path) -> list[Path]:
    """The files of a folder; large ones three times, since they hold more bytes that can change."""
    results = sorted(
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )
    return results + [path for path in results if (folder / path).stat().st_size > 4096] * 2
