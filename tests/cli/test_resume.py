"""Resuming `textflow fit`: with other batches, with the same tokenizer, after max_time."""

import errno
import fcntl
import shutil
from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.user_errors import Fails, refused
from textflow.cli.app import main
from textflow.cli.resume import lock_run, resume_point

pytestmark = pytest.mark.integration

OPTIONS = [
    "--codec", "null", "--model.codec", "EmbeddingTable", "--model.codec.dim", "8",
    "--model.objective.time_schedule", "LogitNormal",
    "--trainer.enable_progress_bar", "false",
]  # fmt: skip


@pytest.fixture(scope="module")
def argv(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a fit whose first four steps are done."""
    argv = ["fit", str(write_recipe(tmp_path_factory.mktemp("resume"))), *OPTIONS]
    assert main([*argv, "--trainer.max_steps", "4"]) == 0
    return argv


@pytest.fixture
def copy(argv: list[str], tmp_path: Path) -> list[str]:
    """The same fit, in a copy of its run folder."""
    shutil.copytree(Path(argv[1]).parent / "run", tmp_path / "run")
    return [*argv, "--run.folder", str(tmp_path / "run")]


def test_the_batch_size_may_change_for_as_many_rows_a_step(copy: list[str], tmp_path: Path, fails: Fails) -> None:
    recipe = (tmp_path / "run" / "recipe.yaml").read_text()
    halves = ["--trainer.max_steps", "6", "--data.batch_size", "2"]
    advice = "give --data.batch_size times --trainer.accumulate_grad_batches = 4"
    fails([*copy, *halves], "takes 4 rows per step", advice)
    assert (tmp_path / "run" / "recipe.yaml").read_text() == recipe
    assert main([*copy, *halves, "--trainer.accumulate_grad_batches", "2"]) == 0


def test_a_run_is_not_resumed_with_another_tokenizer(copy: list[str], tmp_path: Path, fails: Fails) -> None:
    text, tokenizer = Path(copy[1]).parent / "text.txt", tmp_path / "run" / "tokenizer" / "textflow_tokenizer.json"
    original, saved = text.read_text(), tokenizer.read_text()
    text.write_text(original.translate(str.maketrans("bdk", "dkb")))
    fails([*copy, "--trainer.max_steps", "8"], "its text has changed")
    text.write_text(original)
    assert tokenizer.read_text() == saved


def test_two_fits_do_not_write_into_one_run_folder(copy: list[str], tmp_path: Path, fails: Fails) -> None:
    run = tmp_path / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with lock_run(run):
        line = fails([*copy, "--trainer.max_steps", "8"], "another `textflow fit` is writing into", str(run))
    assert "choose another --run.folder" in line
    assert {path: path.read_bytes() for path in before} == before


def test_a_fit_on_a_file_system_without_locks_says_so(
    copy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=f"{tmp_path / 'run'} is on a file system without locks"):
        assert main([*copy, "--trainer.max_steps", "6"]) == 0


def test_max_time_ends_a_run_and_each_resumption_of_it(copy: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*copy, "--trainer.max_steps", "100000", "--trainer.max_time", '{"milliseconds": 300}']
    assert main(argv) == main(argv) == 130
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("max_time is over"))
    assert 4 < int(first.split()[5]) < int(second.split()[5]) and second.endswith("the same command resumes it")


@pytest.mark.integration
def test_a_number_of_steps_below_the_state_is_refused_and_the_same_number_is_finished(
    trained_run: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, argv = (trained_run / "recipe.yaml").read_bytes(), ["fit", str(trained_run.parent / "teacher.yaml")]
    fails([*argv, "--trainer.max_steps", "6"], f"{trained_run} is trained to step 12 already", "max_steps is 6")
    assert (trained_run / "recipe.yaml").read_bytes() == recipe
    assert main(argv) == 0 and f"{trained_run} is finished at step 12" in capsys.readouterr().out


def test_a_state_that_lightning_left_in_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    refused("hpc_ckpt_1.ckpt is a state that Lightning wrote", resume_point, tmp_path, "seed: 0")
