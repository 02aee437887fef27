"""Runs of pairs: fit, sample, eval; and prompts for runs that were trained on texts alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import textflow
from tests.helpers import tiny_recipe as tiny
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.cli.prompts import build_rows
from textflow.eval.bleu_rouge import score_answers
from textflow.eval.figures import curves, diagnose
from textflow.eval.protocol import validation_batch

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


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.integration
def test_distill_prints_the_commands_that_evaluate_students(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "students.yaml").write_text(STUDENTS)
    out = run.parent / "students"
    capsys.readouterr()
    assert main(["distill", str(run.parent / "students.yaml"), "--teacher", str(run), "--run.folder", str(out)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  textflow eval")]
    assert line.split()[2:] == [str(out / "steps-2"), "--steps", "2"]
    assert main([*line.split()[1:], "-n", "4", "--device", "cpu"]) == 0
    assert "ROUGE" in capsys.readouterr().out


@pytest.mark.integration
def test_diagnose_measures_only_the_targets(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "FIGURES", {})
    monkeypatch.setattr(curves, "draw_curves", lambda log, path: None)
    assert main(["diagnose", str(run), "-n", "6", "--out", str(tmp_path), "--measures", "dabi,rollin,cci,margins"]) == 0
    results = json.loads((tmp_path / "diagnose.json").read_text())
    rows = validation_batch(yaml.safe_load((run / "recipe.yaml").read_text())["data"], 6)
    assert rows.prompt_mask is not None
    targets = int((rows.mask & ~rows.prompt_mask).sum())
    assert 0 < targets < int(rows.mask.sum()) and {row["n"] for row in results["dabi"]} == {targets}
    assert {row["n"] for row in results["rollin"]} == {targets}
    assert {row["n"] for row in results["cci"]} == {int((~rows.prompt_mask).sum())}


@pytest.mark.integration
def test_a_prompt_is_answered_in_each_sample(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "answers.jsonl"
    words = ["sample", str(run), "-n", "3", "--steps", "2", "--prompt", SOURCE]
    assert main([*words, "--out", str(out), "--cfg-scale", "2"]) == 0
    rows = read_lines(out)
    assert len(rows) == 3 and all(row["segments"][0] == [True, SOURCE] for row in rows)
    assert all(row["text"].startswith(SOURCE) and row["by_replacement"] is False for row in rows)
    assert main(words) == 0
    assert f"[0] \u00ab{SOURCE}\u00bb" in capsys.readouterr().out


@pytest.mark.integration
def test_a_file_of_prompts_is_answered_line_by_line_and_resumed(run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    file.write_bytes(b"\xef\xbb\xbfbana\r\nkole bana\r\n\r\n")
    argv = ["sample", str(run), "--steps", "2", "--prompt-file", str(file), "--out", str(out)]
    assert main([*argv, "-n", "1"]) == 0 and main(argv) == 0
    resumed = out.read_bytes()
    out.unlink()
    assert main([*argv, "--batch_size", "1"]) == 0
    assert out.read_bytes() == resumed
    assert [row["segments"][0][1] for row in read_lines(out)] == ["bana", "kole bana"]


@pytest.mark.integration
def test_answers_to_the_test_split_are_compared_with_its_targets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--steps", "1,3", "--batch_size", "5"]) == 0
    output = capsys.readouterr().out
    assert all(text in output for text in ("BLEU", "ROUGE-L", "source copied", "tok:13a"))
    paths = eval_files(run, "json")
    records = {
        (r["text"], r.get("steps")): r | {"path": path} for path in paths for r in [json.loads(path.read_text())]
    }
    assert set(records) == {("source copied", None), ("random target", None), ("answers", 1), ("answers", 3)}
    assert {(record["n"], record["split"]) for record in records.values()} == {(12, "test")}
    answers = records["answers", 3]
    assert answers["nfe"] == 4 and records["answers", 1]["nfe"] == 2
    assert records["source copied", None]["rouge1"] == pytest.approx(100, abs=1e-3)  # the same words
    assert records["source copied", None]["rougeL"] < 90
    rows, pairs = read_lines(answers["path"].with_suffix(".jsonl")), read_lines(run.parent / "test.jsonl")
    assert [(row["source"], row["target"]) for row in rows] == [(pair["source"], pair["target"]) for pair in pairs]
    scores = score_answers([row["answer"] for row in rows], [row["target"] for row in rows])
    assert all(answers[key] == scores[key] for key in ("bleu", "rouge1", "n"))
    texts = [path.read_text() for path in eval_files(run, "jsonl")]
    shutil.rmtree(run / "eval")
    assert main(["eval", str(run), "--steps", "1,3", "--batch_size", "12"]) == 0
    assert [path.read_text() for path in eval_files(run, "jsonl")] == texts, "independent of the batch size"


def eval_files(run: Path, kind: str) -> list[Path]:
    return sorted((run / "eval" / "pairs").glob(f"*.{kind}"))


@pytest.mark.integration
def test_a_prompt_that_does_not_fit_the_run_is_an_error_in_one_line(run: Path, fails: Fails) -> None:
    model = textflow.load(run)
    for arguments, message in (
        ((None, None, None), "--prompt TEXT"),
        ((None, None, "a [MASK:2] b"), "--prompt"),
        (("bana " * 40, None, None), "there is room for 12"),
        (("a", None, "[MASK:1]"), "name one of them"),
        (("a", None, None, 30), "leave --length out"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            build_rows(model, *arguments)
        assert "\n" not in str(error.value)
    for argv, message in (
        (["sample", str(run), "--prompt-file", "nowhere.txt"], "nowhere.txt"),
        (["eval", str(run), "--scorer", "gpt2"], "answers sources: leave scorer"),
        (["eval", str(run), "--data.files", "gone.jsonl"], "no file gone.jsonl"),
        (["eval", str(run / "codec"), "--device", "cpu"], "an Autoencoder, which writes no texts"),
    ):
        fails(argv, message)


PROMPT, INFILL = ["--prompt", "bana"], ["--infill", "bana [MASK:3] kole"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("argv", "sampler"), [(PROMPT, "recipe"), (INFILL, "ode"), (PROMPT, "reinject"), (INFILL, "mode-commit")]
)
def test_texts_are_prompted_by_replacement(trained_run: Path, tmp_path: Path, argv: list[str], sampler: str) -> None:
    options = ["-n", "2", "--steps", "2", "--sampler", sampler, "--out", str(tmp_path / "texts.jsonl")]
    assert main(["sample", str(trained_run), *options, *argv]) == 0
    rows = read_lines(tmp_path / "texts.jsonl")
    assert len(rows) == 2 and all(row["by_replacement"] for row in rows)
    prompts = [[text for is_prompt, text in row["segments"] if is_prompt] for row in rows]
    assert prompts == [["bana"] if argv == PROMPT else ["bana", " kole"]] * 2


@pytest.mark.integration
def test_a_run_of_pairs_samples_answers_with_a_trained_prompt(run: Path, trained_run: Path) -> None:
    pairs, texts = textflow.load(run), textflow.load(trained_run)
    assert pairs.text_format.max_source_length == 12 and texts.text_format.max_source_length is None
    samples = (run / "samples" / "step-00000012.txt").read_text().splitlines()
    assert len(samples) == 2 and all(" => " in line for line in samples)
    ids = torch.randint(2, 300, (2, 24))
    prompt_mask = torch.arange(24)[None].expand(2, 24) < 5
    assert pairs.make_prompt(ids, prompt_mask).trained and not texts.make_prompt(ids, prompt_mask).trained


@pytest.mark.integration
def test_a_run_of_pairs_resumes_to_the_same_bits(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(again / "state" / "step-00000012")
    (again / "model.safetensors").unlink()
    assert main(["fit", str(run.parent / "teacher.yaml"), "--run.folder", str(again)]) == 0
    assert "continued from step-00000008" in capsys.readouterr().out
    ours, theirs = (textflow.load(folder).state_dict() for folder in (again, run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_bleu_and_rouge_are_highest_for_the_targets_and_zero_for_empty_answers() -> None:
    targets = ["the cat sat on the mat today", "a dog ran far away from here", "the sun rose over the old hills"]
    answers = (targets, targets[1:] + targets[:1], [""] * 3)
    right, wrong, empty = (score_answers(texts, targets) for texts in answers)
    assert right["bleu"] == pytest.approx(100) and all(right[key] == pytest.approx(100) for key in ("rouge1", "rougeL"))
    assert wrong["bleu"] < 20 and wrong["rouge2"] < 20 and empty["bleu"] == empty["rouge1"] == 0 and empty["empty"] == 3
    assert right["signature"].startswith("nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert wrong["intervals"]["rouge1"][0] <= wrong["rouge1"] <= wrong["intervals"]["rouge1"][1]


@pytest.mark.integration
def test_a_recipe_of_pairs_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.objective.row_assignment", "stratified"]
    assert main(["check", str(tiny.pairs(tmp_path)), *words]) == 0
    shown = capsys.readouterr().out
    assert "JsonlPairs" in shown and "ok   step" in shown
