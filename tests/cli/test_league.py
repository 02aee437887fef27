"""`textflow league`: tiny systems are trained, scored and compared; a killed league resumes."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.helpers.processes import Commands, Done
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.eval.results import load_record

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TEXT = """\
data:
  source: {class_path: Stories, init_args: {grammar: sentences, num_documents: 400}}
  tokenizer: {class_path: WordLevel, init_args: {vocab_size: 128}}
  seq_length: 20
  batch_size: 4
  pack: false
  cache: FOLDER/cache
"""
SHARED = """\
    optimizer: {class_path: MuonAdam, init_args: {lr: 0.02}}
    lr_scheduler: {class_path: WarmupLR, init_args: {warmup_steps: 10, decay: cosine, total_steps: 100}}
    ema_decay: 0.9
run: {wandb: false}
trainer: {max_steps: 100, limit_val_batches: 2, enable_progress_bar: false}
"""
RECIPES = {
    "flow": """\
# tiny flow
codec: codec.yaml
model:
  class_path: Generator
  init_args:
    codec: {class_path: TransformerCodec, init_args: {dim: 8, width: 16, heads: 2}}
    net: {class_path: ELF, init_args: {width: 16, depth: 1, heads: 2, bottleneck: 8}}
    objective: {class_path: ELFObjective, init_args: {time_schedule: DecodeError}}
""",
    "masked": """\
# tiny masked diffusion
model:
  class_path: DiscreteDiffusion
  init_args:
    net: {class_path: TokenDiT, init_args: {width: 16, depth: 1, heads: 2, cond_width: 8}}
""",
}
CODEC = f"# tiny codec\nmodel:\n  class_path: Autoencoder\n  init_args:\n{SHARED}"


class League(NamedTuple):
    """A league that was killed in the second system and started again."""

    folder: Path
    argv: list[str]
    killed: Done
    done: Done

    def record(self, system: str) -> dict[str, Any]:
        return json.loads((self.folder / system / "record.json").read_text())


@pytest.fixture(scope="module")
def league(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> League:
    folder = tmp_path_factory.mktemp("league")
    for name, text in RECIPES.items():
        (folder / f"{name}.yaml").write_text(text + SHARED)
    (folder / "codec.yaml").write_text(CODEC)
    (folder / "text.yaml").write_text(TEXT.replace("FOLDER", str(folder)))
    out, systems = folder / "out", ",".join(str(folder / f"{name}.yaml") for name in RECIPES)
    argv = ["league", "--minutes", "0.01", "--systems", systems, "--data", str(folder / "text.yaml"), "--out", str(out)]
    argv += ["-n", "4", "--steps", "1,2"]
    killed = commands.run(*argv, kill=0, watch=str(out / "masked" / "search-0.01" / "model.safetensors"))
    return League(out, argv, killed, commands.run(*argv))


def test_a_killed_league_goes_on_and_repeats_nothing(league: League) -> None:
    assert league.killed.code == -9 and league.done.code == 0, league.done.err
    assert "flow: fit" in league.killed.out and "masked: search-0.01" in league.killed.out
    assert "flow: " not in league.done.out and "masked: probe" not in league.done.out
    assert "masked: fit" in league.done.out


def test_each_system_has_a_record_of_its_fits_cells_and_diagnostics(league: League) -> None:
    for name, samplers in (("flow", ("ODE", "re-injection", "mode commit")), ("masked", ("own sampler",))):
        record = league.record(name)
        found = [(cell["sampler"], cell["steps"]) for cell in record["cells"]]
        assert found == [(sampler, steps) for sampler in samplers for steps in (1, 2)]
        for cell in record["cells"]:
            low, high = cell["intervals"]["valid"]
            assert low <= cell["valid"] <= high and high > 0.1 and cell["n"] == 4 and cell["seconds"] > 0
            assert (league.folder / name / "fit" / cell["samples"]).is_dir()
        assert record["real"]["valid"] == 1 and record["real"]["n"] == 4
        assert set(record["diagnostics"]["cci"]) == set(samplers)
    flow = league.record("flow")
    assert flow["diagnostics"]["dabi"]["K"] == 8 and flow["diagnostics"]["stiffness"]["ODE"]["peak"] > 0
    assert league.record("masked")["refusals"] == {"DABI and stiffness": "a DiscreteDiffusion has no latents"}


def test_the_final_fit_has_the_best_rate_of_the_search_and_ends_with_its_schedule(league: League) -> None:
    for name in RECIPES:
        fit, folder = league.record(name)["fit"], league.folder / name
        scores = {each["learning_rate"]: each["score"] for each in fit["search"]}
        assert list(scores) == [0.005, 0.01, 0.02] and scores[fit["learning_rate"]] == min(scores.values())
        recipe = yaml.safe_load((folder / "fit" / "recipe.yaml").read_text())
        model = recipe["model"]["init_args"]
        assert model["optimizer"]["init_args"]["lr"] == fit["learning_rate"]
        assert recipe["trainer"]["max_steps"] == fit["steps"] == model["lr_scheduler"]["init_args"]["total_steps"]
        with open(folder / "fit" / "metrics.csv", encoding="utf-8") as file:
            clock = [float(value) for _, logged, value in csv.reader(file) if logged == "train/cpu_seconds"]
        assert clock == sorted(clock) and 0 < clock[-1] == fit["cpu_seconds"] < 60
    codec = league.record("flow")["fit"]["codec"]
    assert recipe.get("codec") is None and Path(codec["run"]).name == "codec" and codec["steps"] >= 2


def test_the_same_command_again_trains_nothing_and_other_minutes_are_refused(
    league: League, capsys: pytest.CaptureFixture[str], fails: Fails
) -> None:
    assert main(league.argv) == 0
    again = capsys.readouterr().out
    assert ": trained" in again and "steps\n" not in again and "| masked | own sampler |" in again
    assert (league.folder / "league.md").read_text() in again and (league.folder / "league.html").is_file()
    record = load_record(league.folder / "league.yaml")
    assert record.tables["valid"].markdown() in again and record.protocol["n"] == "4"
    assert record.protocol["command"].startswith("textflow league --minutes 0.01 --systems")
    assert main([*league.argv, "--dry-run"]) == 0
    fails([*league.argv, "--minutes", "1"], "holds a league of other settings: minutes 0.01 -> 1.0")


def test_a_changed_recipe_is_refused(league: League, fails: Fails) -> None:
    path = league.folder.parent / "masked.yaml"
    before = path.read_text()
    path.write_text(before.replace("depth: 1", "depth: 2"))
    try:
        fails(league.argv, f"masked is left out: {path} or its text has changed since")
    finally:
        path.write_text(before)
