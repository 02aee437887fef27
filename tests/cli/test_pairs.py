"""A run of pairs as its user has it: fit, sample, eval; and prompts for runs that were trained on texts alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import textflow
from tests.helpers import tiny_recipe as tiny
from textflow.cli.app import main
from textflow.cli.checks import truncate_batch
from textflow.eval.bleu_rouge import score_answers
from textflow.eval.protocol import validation_batch
from textflow.types import Batch

SOURCE = "bana kole"
STUDENTS = """\
# tiny students of pairs
rounds: [[2, 2]]
model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}}}
run: {sample_every: 2}
trainer: {max_steps: 2, val_check_interval: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    assert main(["fit", str(tiny.pairs(folder))]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    assert main(["fit", str(tiny.write_recipe(folder))]) == 0
    return folder / "run"


def said(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- a run of pairs


@pytest.mark.integration
def test_samples_of_the_fit_show_sources_and_answers(run: Path) -> None:
    texts = (run / "samples" / "step-00000012.txt").read_text().splitlines()
    assert len(texts) == 2 and all(" => " in text for text in texts)


@pytest.mark.integration
def test_students_of_pairs_say_what_holds_their_answers_against_the_targets(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.parent / "students.yaml").write_text(STUDENTS)
    out = run.parent / "students"
    capsys.readouterr()
    assert main(["distill", str(run.parent / "students.yaml"), "--teacher", str(run), "--run.folder", str(out)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  textflow eval")]
    assert line.split()[2:] == [str(out / "steps-2"), "--steps", "2"]
    assert main([*line.split()[1:], "-n", "4", "--device", "cpu"]) == 0
    assert "ROUGE" in capsys.readouterr().out


@pytest.mark.integration
def test_the_codec_of_pairs_answers_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run / "codec"), "--device", "cpu"]) == 2
    assert "an Autoencoder, which writes no texts" in capsys.readouterr().err


@pytest.mark.integration
def test_diagnose_counts_the_targets_alone(run: Path, tmp_path: Path) -> None:
    assert main(["diagnose", str(run), "-n", "6", "--out", str(tmp_path), "--measures", "dabi,rollin,cci,margins"]) == 0
    found = json.loads((tmp_path / "diagnose.json").read_text())
    rows = validation_batch(yaml.safe_load((run / "recipe.yaml").read_text())["data"], 6)
    assert rows.prompt_mask is not None
    targets = int((rows.mask & ~rows.prompt_mask).sum())
    assert 0 < targets < int(rows.mask.sum()) and {row["n"] for row in found["dabi"]} == {targets}
    assert {row["n"] for row in found["rollin"]} == {targets}
    assert {row["n"] for row in found["cci"]} == {int((~rows.prompt_mask).sum())}


@pytest.mark.integration
def test_a_prompt_is_answered_by_each_seed_and_shown(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "answers.jsonl"
    words = ["sample", str(run), "-n", "3", "--steps", "2", "--prompt", SOURCE]
    assert main([*words, "--out", str(out), "--cfg-scale", "2"]) == 0
    rows = said(out)
    assert len(rows) == 3 and all(row["segments"][0] == [True, SOURCE] for row in rows)
    assert all(row["text"].startswith(SOURCE) and row["by_replacement"] is False for row in rows)
    assert main(words) == 0
    assert f"[0] \u00ab{SOURCE}\u00bb" in capsys.readouterr().out


@pytest.mark.integration
def test_a_file_of_prompts_is_answered_line_by_line_and_goes_on(run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    file.write_text("bana\n\nkole bana\n")
    words = ["sample", str(run), "--steps", "2", "--prompt-file", str(file), "--out", str(out)]
    assert main([*words, "-n", "1"]) == 0 and main(words) == 0
    whole = out.read_bytes()
    out.unlink()
    assert main([*words, "--batch_size", "1"]) == 0
    assert out.read_bytes() == whole
    assert [row["segments"][0][1] for row in said(out)] == ["bana", "kole bana"]


@pytest.mark.integration
def test_the_answers_of_the_test_are_held_against_its_targets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--steps", "1,3", "--batch_size", "5"]) == 0
    shown = capsys.readouterr().out
    assert "BLEU" in shown and "ROUGE-L" in shown and "source copied" in shown and "tok:13a" in shown
    records = {(one["text"], one.get("steps")): one for one in map(json.loads, map(Path.read_text, found(run, "json")))}
    assert set(records) == {("source copied", None), ("random target", None), ("answers", 1), ("answers", 3)}
    assert {record["n"] for record in records.values()} == {12}
    assert {record["split"] for record in records.values()} == {"test"}
    assert records["answers", 3]["nfe"] == 4 and records["answers", 1]["nfe"] == 2
    assert records["source copied", None]["rouge1"] == pytest.approx(100, abs=1e-3)  # the same words
    assert records["source copied", None]["rougeL"] < 90


def found(run: Path, kind: str) -> list[Path]:
    return sorted((run / "eval" / "pairs").glob(f"*.{kind}"))


@pytest.mark.integration
def test_what_was_scored_lies_beside_its_record(run: Path) -> None:
    assert main(["eval", str(run), "--steps", "2", "-n", "4"]) == 0
    records = {path: json.loads(path.read_text()) for path in found(run, "json")}
    path = next(path for path, one in records.items() if one.get("steps") == 2)
    texts = said(path.with_suffix(".jsonl"))
    tests = said(run.parent / "test.jsonl")[:4]
    assert [(one["source"], one["target"]) for one in texts] == [(one["source"], one["target"]) for one in tests]
    again = score_answers([one["answer"] for one in texts], [one["target"] for one in texts])
    assert {key: records[path][key] for key in ("bleu", "rouge1", "n")} == {
        key: again[key] for key in ("bleu", "rouge1", "n")
    }


@pytest.mark.integration
def test_answers_do_not_depend_on_their_batch(run: Path) -> None:
    texts = []
    for size in ("3", "12"):
        shutil.rmtree(run / "eval", ignore_errors=True)
        assert main(["eval", str(run), "--steps", "3", "--batch_size", size]) == 0
        texts.append([path.read_text() for path in found(run, "jsonl")])
    assert texts[0] == texts[1]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ([], "--prompt TEXT"),
        (["--infill", "a [MASK:2] b"], "--prompt"),
        (["--prompt", "bana " * 40], "there is room for 12"),
        (["--prompt", "a", "--infill", "[MASK:1]"], "name one of them"),
        (["--prompt", "a", "--length", "30"], "leave --length out"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_slip_is_one_line_with_the_way_out(
    run: Path, words: list[str], needed: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["sample", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert needed in error and error.count("\n") == 1


@pytest.mark.integration
def test_a_judge_of_texts_is_refused_for_pairs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--scorer", "gpt2"]) == 2
    assert "answers sources: leave scorer" in capsys.readouterr().err


# --- a run of texts


@pytest.mark.integration
@pytest.mark.parametrize("words", [["--prompt", "bana"], ["--infill", "bana [MASK:3] kole"]])
@pytest.mark.parametrize("sampler", ["recipe", "ode", "reinject", "mode-commit"])
def test_a_run_of_texts_is_filled_in_by_replacement(
    plain: Path, tmp_path: Path, words: list[str], sampler: str
) -> None:
    out = tmp_path / "texts.jsonl"
    assert main(["sample", str(plain), "-n", "2", "--steps", "2", "--sampler", sampler, "--out", str(out), *words]) == 0
    rows = said(out)
    assert len(rows) == 2 and all(row["by_replacement"] for row in rows)
    given = [[text for known, text in row["segments"] if known] for row in rows]
    assert given == [["bana"]] * 2 if words[0] == "--prompt" else [["bana", " kole"]] * 2


@pytest.mark.integration
def test_a_loaded_run_knows_whether_it_was_trained_on_pairs(run: Path, plain: Path) -> None:
    pairs, texts = textflow.load(run), textflow.load(plain)
    assert pairs.max_source_length == 12 and texts.max_source_length is None
    ids = torch.randint(2, 300, (2, 24))
    fixed = torch.arange(24)[None].expand(2, 24) < 5
    assert pairs.make_prompt(ids, fixed).trained and not texts.make_prompt(ids, fixed).trained


@pytest.mark.integration
def test_a_run_of_pairs_goes_on_to_the_same_bits(run: Path, tmp_path: Path) -> None:
    teacher = tiny.pairs(tmp_path)
    assert main(["fit", str(teacher), "--trainer.max_steps", "8"]) == 0
    assert main(["fit", str(teacher)]) == 0
    ours, theirs = (textflow.load(folder).state_dict() for folder in (tmp_path / "run", run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_scores_know_what_is_right_and_what_is_not() -> None:
    targets = ["the cat sat on the mat today", "a dog ran far away from here", "the sun rose over the old hills"]
    right, wrong, none = (
        score_answers(targets, targets),
        score_answers(targets[1:] + targets[:1], targets),
        score_answers([""] * 3, targets),
    )
    assert right["bleu"] == pytest.approx(100) and all(right[key] == pytest.approx(100) for key in ("rouge1", "rougeL"))
    assert wrong["bleu"] < 20 and wrong["rouge2"] < 20 and none["bleu"] == none["rouge1"] == 0 and none["empty"] == 3
    assert right["signature"].startswith("nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert wrong["intervals"]["rouge1"][0] <= wrong["rouge1"] <= wrong["intervals"]["rouge1"][1]


def test_a_recipe_of_pairs_is_looked_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.objective.row_assignment", "stratified"]
    assert main(["check", str(tiny.pairs(tmp_path)), *words]) == 0
    shown = capsys.readouterr().out
    assert "JsonlPairs" in shown and "ok   step" in shown


def test_a_small_excerpt_of_pairs_holds_their_targets() -> None:
    fixed = torch.arange(200)[None] < torch.tensor([150, 120])[:, None]
    ids = torch.arange(200).repeat(2, 1)
    part = truncate_batch(Batch(ids, torch.ones_like(fixed), fixed), 64)
    assert part.ids[0].tolist() == list(range(88, 152)) and part.prompt_mask.sum(1).tolist() == [62, 32]
    assert truncate_batch(Batch(ids, torch.ones_like(fixed)), 64).ids[1].tolist() == list(range(64))
