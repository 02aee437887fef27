"""`textflow fit`: training, interrupting and resuming a run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import textflow
from tests.helpers.bitwise import is_same
from tests.helpers.launcher import free_port
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import NO_CODEC, write_recipe
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.cli.resume import lock_run
from textflow.samplers import Reinject
from textflow.types import Conditioning


@pytest.mark.integration
def test_a_run_folder_holds_weights_recipe_logs_samples_and_the_trained_codec(trained_run: Path) -> None:
    names = {str(path.relative_to(trained_run)) for path in trained_run.rglob("*")}
    assert {"model.safetensors", "recipe.yaml", "README.md", "metrics.csv"} <= names
    assert {"state/step-00000012/state.pt", "samples/step-00000012.txt", "codec/model.safetensors"} <= names
    assert "tokenizer/textflow_tokenizer.json" in names and not list(Path.cwd().glob("lightning_logs"))
    teacher, codec = (load_file(folder / "model.safetensors") for folder in (trained_run, trained_run / "codec"))
    assert torch.equal(teacher["frozen_codec.embed.weight"], codec["net.embed.weight"])
    assert teacher["frozen_codec.norm.num_batches_tracked"] == 40, "the codec's statistics are frozen"


@pytest.mark.integration
def test_a_text_depends_on_its_seed_and_not_on_its_batch(trained_run: Path) -> None:
    model = textflow.load(trained_run)
    z = torch.randn(2, 16, 8)
    assert model.net(z, torch.tensor([0.2, 0.5]), Conditioning()).mean.shape == z.shape
    assert model.decode_logits(z).shape == (2, 16, 320)
    for sampler in (None, Reinject(1.5)):
        together = model.generate(num_samples=5, num_steps=4, seed=3, sampler=sampler, batch_size=5)
        assert together == model.generate(num_samples=5, num_steps=4, seed=3, sampler=sampler, batch_size=2)
        assert together[3:] == model.generate(num_samples=2, num_steps=4, seed=3, sampler=sampler, first_index=3)
    assert model.generate(num_samples=5, num_steps=4, seed=3) != model.generate(num_samples=5, num_steps=4, seed=4)


@pytest.mark.integration
def test_sample_writes_what_generate_returns_and_resumes_its_file(trained_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    for n in ("2", "4"):
        assert main(["sample", str(trained_run), "-n", n, "--steps", "3", "--out", str(out)]) == 0
    texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert texts == textflow.load(trained_run).generate(num_samples=4, num_steps=3)


@pytest.mark.integration
def test_another_recipe_does_not_overwrite_a_run(trained_run: Path, fails: Fails) -> None:
    before = (trained_run / "model.safetensors").read_bytes()
    changes = ["--data.batch_size", "2", "--model.net.depth", "2"]
    argv = ["fit", str(trained_run.parent / "teacher.yaml"), *changes]
    fails(argv, "data.batch_size: 4 -> 2", "model.net.depth: 1 -> 2")
    assert (trained_run / "model.safetensors").read_bytes() == before


@pytest.mark.integration
def test_a_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    assert main(["fit", str(write_recipe(tmp_path)), "--trainer.fast_dev_run", "true"]) == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "ranks",
    [
        {"LOCAL_RANK": "1", "RANK": "1"},
        {"LOCAL_RANK": "0", "RANK": "8", "GROUP_RANK": "1"},  # torchrun, on the second machine
        {"LOCAL_RANK": "1", "RANK": "0"},  # started by Lightning below a process with its machine's rank
        {"NODE_RANK": "1"},
        {"SLURM_PROCID": "8", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"},
        {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"},
        {"SLURM_PROCID": "0", "RANK": "9", "LOCAL_RANK": "1"},  # torchrun, which numbers machines by itself
    ],
)
def test_only_a_first_process_locks(ranks: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"LOCAL_RANK": "0", "RANK": "0", "GROUP_RANK": "0", "NODE_RANK": "", "SLURM_PROCID": "1"}
    with monkeypatch.context() as patch:
        for name, rank in first.items():
            patch.setenv(name, rank)
        with lock_run(tmp_path):
            for name in first:
                patch.delenv(name)
            with pytest.raises(ValueError, match="another `textflow fit` is writing"), lock_run(tmp_path):
                pass
            for name, rank in ranks.items():
                patch.setenv(name, rank)
            with lock_run(tmp_path):
                pass


Start = tuple[list[str], dict[str, str]]


def torchrun(port: int, node: int) -> Start:
    """Arguments before `-m`, and the environment, of one of two machines with a process each."""
    arguments = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    return [*arguments, "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "1"], {}


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
        arguments, there = start(port, node)
        with open(tmp_path / f"said-{node}", "w", encoding="utf-8") as message:
            environment, line = os.environ | there, [fit[0], *arguments, *fit[1:]]
            started.append(subprocess.Popen(line, env=environment, stdout=message, stderr=subprocess.STDOUT))
    codes = [process.wait(600) for process in started]
    message = [(tmp_path / f"said-{node}").read_text() for node in (0, 1)]
    assert codes == [0, 0], "\n".join(text[-3000:] for text in message)
    assert sorted(text.count("Trained: ") for text in message) == [0, 2], "codec and teacher, by one process"
    assert (tmp_path / "run" / "state" / "step-00000012" / "state.pt").is_file()


@pytest.mark.integration
def test_weights_without_a_state_are_not_overwritten(trained_run: Path, tmp_path: Path, fails: Fails) -> None:
    teacher = write_recipe(tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(trained_run / "model.safetensors", tmp_path / "run")
    fails(["fit", str(teacher)], "is not overwritten")


@pytest.mark.integration
def test_an_untrained_codec_is_refused(tmp_path: Path, fails: Fails) -> None:
    fails(["fit", str(write_recipe(tmp_path)), "--codec", "null"], "the codec TransformerCodec is not trained")


def command(teacher: Path) -> list[str]:
    return [sys.executable, "-m", "textflow.cli.app", "fit", str(teacher)]


@pytest.mark.integration
def test_a_killed_run_resumes_to_the_same_bits(commands: Commands, trained_run: Path, tmp_path: Path) -> None:
    teacher, run = str(write_recipe(tmp_path)), tmp_path / "run"
    assert commands.run("fit", teacher, kill=0, watch=str(run / "state" / "step-00000004")).code == -9
    assert not (run / "state" / "step-00000012").exists(), "killed too late to test a resumption"
    assert commands.run("fit", teacher).code == 0
    for name in ("model.safetensors", "codec/model.safetensors"):
        assert is_same(load_file(run / name), load_file(trained_run / name)), name
    state = Path("state", "step-00000012", "state.pt")
    resumed, expected = (torch.load(folder / state, weights_only=True) for folder in (run, trained_run))
    assert is_same(resumed, expected)


@pytest.mark.integration
def test_ctrl_c_saves_a_state_and_prints_how_to_resume(commands: Commands, tmp_path: Path) -> None:
    run, argv = tmp_path / "run", [*NO_CODEC, "--trainer.max_steps", "100000", "--run.save_every", "100000"]
    done = commands.run(
        "fit", write_recipe(tmp_path), *argv, kill=0, watch=run / "metrics.csv", interrupt="SIGINT", limit=120
    )
    assert (done.code, done.late) == (130, False)
    assert "to continue:" in done.out + done.err and list((run / "state").glob("step-*"))
