"""Plan of a league: its systems, and the recipes of its fits."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.user_errors import Fails, refused
from textflow.config import recipe
from textflow.config.model import load_model
from textflow.eval.league.fits import affordable_steps, best_rate, fit_tree, last_value, log_interval, seconds_per_step
from textflow.eval.league.plan import SYSTEMS, LeagueConfig, find_systems, read_entrant
from textflow.training.nan_guard import NonFiniteError

ROOT = Path(__file__).parents[3]


def test_systems_are_named_or_are_recipes_and_mistakes_have_a_way_out(fails: Fails) -> None:
    assert find_systems("ar, my/own.yaml") == {"ar": SYSTEMS["ar"], "own": "my/own.yaml"}
    refused("no system 'langflw'; did you mean 'langflow'", find_systems, "langflw")
    refused("two systems have the name ar; leave one out", find_systems, "ar,recipes/small/ar.yaml")
    refused("no system: give some of quickstart, langflow", find_systems, " ,")
    fails(["league", "--minutes", "0"], "--minutes 0, --seed 0: need minutes above 0")
    fails(["league", "-n", "0"], "-n is 0; at least 1 is needed")
    fails(["league", "--data", "tinystories"], "--data tinystories is not text of the source Stories")


def test_a_league_keeps_its_settings(tmp_path: Path) -> None:
    LeagueConfig("stories", 2.0, 0).bind(tmp_path)
    LeagueConfig("stories", 2.0, 0).bind(tmp_path)
    refused("minutes 2.0 -> 3.0, seed 0 -> 1; restore them", LeagueConfig("stories", 3.0, 1).bind, tmp_path)


@pytest.mark.integration
def test_every_system_is_built_on_the_stories_with_its_schedules_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config, texts = LeagueConfig("stories", 1.0, 3), list[dict[str, object]]()
    for name, path in SYSTEMS.items():
        entrant = read_entrant(name, path, config, tmp_path)
        for tree in filter(None, (entrant.codec_tree, entrant.tree)):
            own, factor = fit_tree(tree, tmp_path / "run", 90, learning_rate=0.5), 90 / tree["trainer"]["max_steps"]
            model, parsed = load_model(yaml.safe_dump(own), 128), recipe.recipe_parser().parse_object(own)
            assert parsed.seed == 3 and parsed.trainer.max_steps == 90 and parsed.data.seq_length == 32, name
            parts = own["model"]["init_args"]
            codec = parts.get("codec", {}).get("init_args", {})
            assert codec.get("length", 32) == 32 and codec.get("latents") in (None, 8, 16), "as many latents per token"
            rates, before = (each["lr_scheduler"]["init_args"] for each in (parts, tree["model"]["init_args"]))
            assert rates.get("total_steps") is None, "the schedule ends with the fit"
            assert rates["warmup_steps"] == int(before["warmup_steps"] * factor), name
            assert parts["optimizer"]["init_args"]["lr"] == 0.5, name
        texts.append({key: value for key, value in entrant.tree["data"].items() if key != "batch_size"})
        assert name == "ar" or model.objective.loss_on_padding, f"{name} does not learn where a story ends"
    assert texts == texts[:1] * len(SYSTEMS) and texts[0]["scorer_holdout"] == 0, "one text and split"
    part = fit_tree(entrant.tree, tmp_path, 18, end=90)["model"]["init_args"]["lr_scheduler"]["init_args"]
    assert part == rates | {"total_steps": 90}, "the first steps of a fit have its schedule"
    duo = fit_tree(read_entrant("duo", SYSTEMS["duo"], config, tmp_path).tree, tmp_path, 90)
    assert duo["model"]["init_args"]["objective"]["init_args"]["curriculum_steps"] == 0, (
        "its noise suits large vocabularies"
    )
    cola = read_entrant("cola", SYSTEMS["cola"], config, tmp_path).tree
    assert cola["model"]["init_args"]["net"]["init_args"]["block_size"] == 8, "four blocks of 32, as of 64"


def test_a_text_without_a_truth_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    refused("--data tinystories is not text of the source Stories", read_ar, "tinystories", tmp_path)
    refused(
        "ar: no recipe recipes/data/storeis.yaml; did you mean recipes/data/stories.yaml", read_ar, "storeis", tmp_path
    )


def read_ar(data: str, out: Path) -> None:
    read_entrant("ar", SYSTEMS["ar"], LeagueConfig(data, 1.0, 0), out)


def test_steps_fill_the_minutes_and_the_last_one_is_logged() -> None:
    for minutes, seconds, expected in ((1.0, 0.5, 120), (1.0, 0.29, 206), (10.0, 0.1, 6000), (1e-4, 9.0, 2)):
        steps = affordable_steps(minutes, seconds)
        assert steps == expected and steps % log_interval(steps) == 0


def test_the_logs_give_the_seconds_of_a_step_and_the_scores_the_best_rate(tmp_path: Path) -> None:
    rows = ["1,train/cpu_seconds,5.0", "2,train/cpu_seconds,6.0", "3,train/cpu_seconds,6.5", "5,train/cpu_seconds,7.5"]
    (tmp_path / "metrics.csv").write_text("\n".join(["step,name,value", *rows, "5,val/loss,nan", ""]))
    assert seconds_per_step(tmp_path) == 0.5 and last_value(tmp_path, "train/cpu_seconds") == 7.5
    with pytest.raises(NonFiniteError, match="no finite val/loss"):
        last_value(tmp_path, "val/loss")
    assert best_rate({0.1: 2.0, 0.2: 1.0, 0.4: None}) == 0.2
