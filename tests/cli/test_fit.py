"""`textflow fit` as its user runs it: train, look, stop, go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

import textflow
from tests.helpers.launcher import free_port
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import write_recipe
from tests.training.test_resume import same
from textflow.cli.app import main
from textflow.cli.resume import lock_run
from textflow.samplers import Reinject
from textflow.types import Conditioning


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    assert main(["fit", str(write_recipe(folder))]) == 0
    return folder / "run"


@pytest.mark.integration
def test_a_run_folder_holds_all_that_a_user_needs(run: Path) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert {
        "model.safetensors",
        "recipe.yaml",
        "README.md",
        "metrics.csv",
        "tokenizer/textflow_tokenizer.json",
    } <= names
    assert {"state/step-00000012/state.pt", "samples/step-00000012.txt", "codec/model.safetensors"} <= names
    assert not list(Path.cwd().glob("lightning_logs"))


@pytest.mark.integration
def test_the_teacher_took_over_the_trained_codec(run: Path) -> None:
    teacher, codec = load_file(run / "model.safetensors"), load_file(run / "codec" / "model.safetensors")
    assert torch.equal(teacher["frozen_codec.embed.weight"], codec["net.embed.weight"])
    assert teacher["frozen_codec.norm.num_batches_tracked"] == 40  # its statistics no longer move


@pytest.mark.integration
def test_a_loaded_run_generates_and_answers(run: Path) -> None:
    g = textflow.load(run)
    texts = g.generate(num_samples=4, num_steps=3, seed=0)
    assert len(texts) == 4 and all(isinstance(text, str) for text in texts)
    z = torch.randn(2, 16, 8)
    assert g.net(z, torch.tensor([0.2, 0.5]), Conditioning()).mean.shape == z.shape
    assert g.decode_logits(z).shape == (2, 16, 320)


@pytest.mark.integration
def test_a_text_depends_on_its_seed_and_not_on_its_batch(run: Path) -> None:
    g = textflow.load(run)
    for sampler in (None, Reinject(1.5)):
        together = g.generate(num_samples=5, num_steps=4, seed=3, sampler=sampler, batch_size=5)
        assert together == g.generate(num_samples=5, num_steps=4, seed=3, sampler=sampler, batch_size=2)
        assert together[3:] == g.generate(num_samples=2, num_steps=4, seed=3, sampler=sampler, first_index=3)
    assert g.generate(num_samples=5, num_steps=4, seed=3) != g.generate(num_samples=5, num_steps=4, seed=4)


@pytest.mark.integration
def test_sample_writes_what_generate_returns_and_goes_on(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    assert main(["sample", str(run), "-n", "2", "--steps", "3", "--out", str(out)]) == 0
    assert main(["sample", str(run), "-n", "4", "--steps", "3", "--out", str(out)]) == 0
    texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert texts == textflow.load(run).generate(num_samples=4, num_steps=3)


@pytest.mark.integration
def test_another_recipe_does_not_overwrite_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "model.safetensors").read_bytes()
    words = ["fit", str(run.parent / "teacher.yaml"), "--data.batch_size", "2", "--model.net.depth", "2"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "data.batch_size: 4 -> 2" in error and "model.net.depth: 1 -> 2" in error
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.integration
def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert main(["fit", str(write_recipe(tmp_path)), "--trainer.fast_dev_run", "true"]) == 0
    assert not (tmp_path / "run").exists()


def test_two_fits_do_not_write_into_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = write_recipe(tmp_path)
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        assert main(["fit", str(teacher)]) == 2
    assert "another `textflow fit` is writing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    [
        {"LOCAL_RANK": "1", "RANK": "1"},
        {"LOCAL_RANK": "0", "RANK": "8", "GROUP_RANK": "1"},  # torchrun, on the second machine
        {"LOCAL_RANK": "1", "RANK": "0"},  # started by Lightning below a process that was told its machine's rank
        {"NODE_RANK": "1"},
        {"SLURM_PROCID": "8", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"},
        {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"},
        {"SLURM_PROCID": "0", "RANK": "9", "LOCAL_RANK": "1"},  # torchrun, which numbers machines in its own way
    ],
)
def test_only_the_first_process_of_a_job_holds_the_folder(
    place: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"LOCAL_RANK": "0", "RANK": "0", "GROUP_RANK": "0", "NODE_RANK": "", "SLURM_PROCID": "1"}
    with monkeypatch.context() as held:
        for name, rank in first.items():
            held.setenv(name, rank)
        with lock_run(tmp_path):
            for name in first:
                held.delenv(name)
            with pytest.raises(ValueError, match="another `textflow fit` is writing"), lock_run(tmp_path):
                pass
            for name, rank in place.items():
                held.setenv(name, rank)
            with lock_run(tmp_path):
                pass


Start = tuple[list[str], dict[str, str]]


def torchrun(port: int, node: int) -> Start:
    """How one of two machines of a process each starts its part: words before `-m`, and the environment."""
    words = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    return [*words, "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "1"], {}


def srun(port: int, node: int) -> Start:
    """As `torchrun`, by what srun sets."""
    there = {"NTASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2", "PROCID": f"{node}", "NODEID": f"{node}"}
    there |= {"LOCALID": "0", "JOB_ID": "1", "JOB_NAME": "textflow"}
    there = {f"SLURM_{name}": value for name, value in there.items()}
    return [], there | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("start", [torchrun, srun])
def test_two_machines_are_one_fit(start: Callable[[int, int], Start], tmp_path: Path) -> None:
    overlay = str(Path(__file__).parents[2] / "recipes" / "hardware" / "multinode.yaml")
    fit = [*command(write_recipe(tmp_path)), overlay, "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    port, started = free_port(), []
    for node in (0, 1):
        words, there = start(port, node)
        with open(tmp_path / f"said-{node}", "w") as said:
            environment, line = os.environ | there, [fit[0], *words, *fit[1:]]
            started.append(subprocess.Popen(line, env=environment, stdout=said, stderr=subprocess.STDOUT))
    codes = [process.wait(600) for process in started]
    said = [(tmp_path / f"said-{node}").read_text() for node in (0, 1)]
    assert codes == [0, 0], "\n".join(text[-3000:] for text in said)
    assert sorted(text.count("Trained: ") for text in said) == [0, 2], "codec and teacher, by the first process alone"
    assert (tmp_path / "run" / "state" / "step-00000012" / "state.pt").is_file()


@pytest.mark.integration
def test_a_recipes_own_logger_is_heard_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--codec", "null", "--model.codec", "EmbeddingTable", "--model.codec.dim", "8", "--trainer.max_steps", "2"]
    words += ["--model.objective.time_schedule", "LogitNormal", "--trainer.logger", "CSVLogger"]
    assert main(["fit", str(write_recipe(tmp_path)), *words, "--trainer.logger.save_dir", str(run / "own")]) == 0
    (own,) = (run / "own").rglob("metrics.csv")
    assert "train/loss" in own.read_text() and "train/loss" in (run / "metrics.csv").read_text()


@pytest.mark.integration
def test_weights_without_a_state_are_not_overwritten(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    teacher = write_recipe(tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(run / "model.safetensors", tmp_path / "run")
    assert main(["fit", str(teacher)]) == 2
    assert "is not overwritten" in capsys.readouterr().err


def test_an_untrained_codec_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(write_recipe(tmp_path)), "--codec", "null"]) == 2
    assert "the codec TransformerCodec is not trained" in capsys.readouterr().err


def command(teacher: Path) -> list[str]:
    return [sys.executable, "-m", "textflow.cli.app", "fit", str(teacher)]


@pytest.mark.integration
def test_killed_and_run_again_it_ends_with_the_same_bits(commands: Commands, run: Path, tmp_path: Path) -> None:
    teacher, state = str(write_recipe(tmp_path)), tmp_path / "run" / "state"
    assert commands.run("fit", teacher, kill=0, watch=str(state / "step-00000004")).code == -9
    assert not (state / "step-00000012").exists(), "killed too late to show anything"
    assert commands.run("fit", teacher).code == 0
    for name in ("model.safetensors", "codec/model.safetensors"):
        ours, theirs = load_file(tmp_path / "run" / name), load_file(run / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    ours, theirs = (
        torch.load(folder / "state" / "step-00000012" / "state.pt", weights_only=True)
        for folder in (tmp_path / "run", run)
    )
    assert same(ours, theirs)


@pytest.mark.integration
def test_ctrl_c_saves_and_says_how_to_continue(tmp_path: Path) -> None:
    teacher = write_recipe(tmp_path)
    words = [*command(teacher), "--trainer.max_steps", "100000", "--run.save_every", "100000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        metrics, deadline = tmp_path / "run" / "metrics.csv", time.monotonic() + 120
        while not metrics.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "to continue:" in said and list((tmp_path / "run" / "state").glob("step-*"))
