"""From a run to records by every protocol; the scorer is a tiny GPT-2 in a folder, by the code path of gpt2-large."""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import textflow.run_folder
from textflow.cli.options import configure_sampling
from textflow.cli.scorers import resolve_scorer
from textflow.eval.parallel import SamplingConfig, SamplingJob
from textflow.eval.protocol import load_protocol, protocol_names
from textflow.eval.scoring import ScorerConfig, evaluate_file, evaluate_run

NEEDED = ("protocol", "deviations", "checkpoint_hash", "recipe", "seq_length", "tokenizer", "seed", "n", "scorer")
NEEDED += ("scorer_revision", "scorer_dtype", "scorer_hash", "truncation", "aggregation", "entropy_ids", "textflow")


def judge(run: Path, name: str, **how: object) -> ScorerConfig:
    made: ScorerConfig = resolve_scorer(run, name, str(run.parent / "judge"), None, None, False, "cpu")
    return replace(made, **how)  # type: ignore[arg-type]


def plain(run: Path, n: int = 6, **how: object) -> SamplingJob:
    return SamplingJob(run, [1, 2], n, [SamplingConfig(lambda generator: None)], batch_size=4, **how)  # type: ignore[arg-type]


@pytest.mark.integration
@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_writes_a_record_a_cell_with_all_of_it(run: Path, name: str) -> None:
    records = list(evaluate_run(plain(run), judge(run, name)))
    assert [(r["text"], r.get("steps")) for r in records] == [
        *(("real", None), ("shuffled", None)), *(("generated", 1), ("generated", 2)),
    ]  # fmt: skip
    said, kept = load_protocol(name), [json.loads(path.read_text()) for path in (run / "eval").glob("*.json")]
    for record in records:
        assert record in kept and all(key in record for key in NEEDED)
        assert (record["protocol"], record["token_weighting"], record["entropy_ids"]) == (
            name,
            said.token_weighting,
            said.entropy_ids,
        )
        assert record["scorer_dtype"] == said.dtype and record["truncation"] == 8
        assert record["entropy"] == record[f"entropy_{said.entropy_ids}"]
        assert {f"n 6 for {said.n}", f"truncation 8 for {said.truncation}"} <= set(record["deviations"])
        assert (record.get("memorized_4grams") is not None) == said.memorization and 0 <= record["recovery"] <= 1
    for record in records[2:]:
        assert record["sampler"]["class"] and record["time_grid"]["times"] and record["nfe"] >= 2
        assert (run / record["samples"] / "point.json").is_file()


@pytest.mark.integration
def test_real_text_is_remembered_more_than_its_shuffled_words(run: Path) -> None:
    real, mixed, *_ = evaluate_run(plain(run, 20), judge(run, "local"))
    assert (
        real["memorized_4grams"] > mixed["memorized_4grams"]
        or real["memorized_4grams"] == mixed["memorized_4grams"] == 0
    )
    assert (
        real["intervals"]["memorized_4grams"][0] <= real["memorized_4grams"] <= real["intervals"]["memorized_4grams"][1]
    )


@pytest.mark.integration
def test_the_samples_and_numbers_are_those_of_an_uninterrupted_run(run: Path) -> None:
    whole = [r for r in evaluate_run(plain(run, 9, seed=5), judge(run, "elf")) if r["text"] == "generated"]
    for record in whole:
        for file in sorted((run / record["samples"]).glob("*.jsonl"))[1:]:
            file.unlink()
    again = [r for r in evaluate_run(plain(run, 9, seed=5), judge(run, "elf")) if r["text"] == "generated"]
    timed = ("seconds", "intervals")
    assert [{k: v for k, v in r.items() if k not in timed} for r in again] == [
        {k: v for k, v in r.items() if k not in timed} for r in whole
    ]


@pytest.mark.integration
@pytest.mark.slow  # each process imports torch anew
def test_two_devices_give_the_samples_of_one(run: Path) -> None:
    one = list(evaluate_run(plain(run, 10, seed=6), judge(run, "elf")))[2:]
    texts = {(run / r["samples"]): sorted((run / r["samples"]).glob("*.jsonl")) for r in one}
    first = {path: [json.loads(line)["ids"] for f in files for line in f.read_text().splitlines()]
             for path, files in texts.items()}  # fmt: skip
    for files in texts.values():
        for file in files:
            file.unlink()
    way = SamplingConfig(partial(configure_sampling, name="recipe", gamma=None, sweep={}))
    list(evaluate_run(replace(plain(run, 10, seed=6), sampling_configs=[way]), judge(run, "elf"), ["cpu", "cpu"]))
    for path, files in texts.items():
        assert [json.loads(line)["ids"] for f in files for line in f.read_text().splitlines()] == first[path]


@pytest.mark.integration
def test_a_sweep_sets_one_number_a_way(run: Path) -> None:
    ways = [
        SamplingConfig(partial(configure_sampling, name="reinject", gamma=9.0, sweep={"gamma": g}), {"gamma": g})
        for g in (0.0, 2.0)
    ]
    *_, first, second = evaluate_run(replace(plain(run), steps=[3], sampling_configs=ways), judge(run, "elf"))
    assert (first["sampler"]["gamma"], second["sampler"]["gamma"]) == (0.0, 2.0)
    assert first["sweep"] == {"gamma": 0.0} and first["samples"] != second["samples"]


@pytest.mark.integration
def test_mauve_below_its_number_is_an_error_before_anything_is_sampled(run: Path) -> None:
    with pytest.raises(ValueError, match="needs 5000 samples and got 6: -n 5000"):
        list(evaluate_run(plain(run), judge(run, "elf", mauve=True)))


@pytest.mark.integration
def test_mauve_of_enough_samples_has_an_interval(run: Path) -> None:
    few = replace(load_protocol("elf"), mauve_samples=20)
    *_, record = evaluate_run(replace(plain(run, 20), steps=[1]), judge(run, "elf", mauve=True, protocol=few))
    low, high = record["intervals"]["mauve"]
    assert 0 <= record["mauve"] <= 1 and low <= record["mauve"] <= high


@pytest.mark.integration
def test_a_file_of_fewer_texts_than_the_protocol_needs_is_refused_and_with_n_it_is_marked(run: Path) -> None:
    file = run.parent / "made.jsonl"
    file.write_text('{"text": "in the beginning God"}\n{"text": ""}\n"earth"\n{"text": "torn')
    who = resolve_scorer(file, "elf", str(run.parent / "judge"), None, None, False, "cpu")
    with pytest.raises(ValueError, match="holds 3 readable texts, protocol elf needs 1000: .*-n 3"):
        evaluate_file(file, who)
    record = evaluate_file(file, who, 3)
    assert record["deviations"][-1] == "n 3 for 1000" and record["empty"] == 1 and record["unreadable"] == 1
    assert record["unreadable_lines"] == ["made.jsonl:4 is not JSON"] and record["perplexity"] > 1
    assert record["file_hash"] == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert len(list((run.parent / "made.eval").glob("file-*.json"))) == 1
    with pytest.raises(ValueError, match="-n asks for 4"):
        evaluate_file(file, who, 4)


@pytest.mark.integration
def test_ids_of_a_file_give_the_generators_entropy_and_without_them_it_is_not_said(run: Path) -> None:
    file = run.parent / "ids.jsonl"
    file.write_text('{"text": "in the beginning", "ids": [1, 1]}\n{"text": "God", "ids": [2, 2]}\n')
    who = resolve_scorer(file, "mdlm", str(run.parent / "judge"), None, None, False, "cpu")
    assert evaluate_file(file, who, 2)["entropy"] == 0
    file.write_text('{"text": "in the beginning"}\n{"text": "God", "ids": [2, 2]}\n')
    assert evaluate_file(file, who, 2)["entropy"] is None


@pytest.mark.integration
def test_the_local_judge_is_fitted_where_it_is_missing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"data": {"tokenizer": {"class_path": "SentencePiece", "init_args": {"vocab_size": 310}}, "seq_length": 16}}
    small["data"] |= {"batch_size": 4}
    model = {"class_path": "CausalLM", "init_args": {"width": 16, "depth": 1, "heads": 2, "max_length": 16}}
    trainer = {"max_steps": 2, "val_check_interval": 2, "accelerator": "cpu", "enable_progress_bar": False}
    (tmp_path / "scorer.yaml").write_text(yaml.safe_dump(small | {"model": model, "trainer": trainer}))
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols" / "local.yaml").write_text(
        "{scorer: local, token_weighting: local, entropy_ids: scorer, n: 4}"
    )
    monkeypatch.setattr("textflow.eval.protocol.PROTOCOL_FOLDER", tmp_path / "protocols")
    who = resolve_scorer(run, "local", None, None, None, False, "cpu")
    assert Path(who.model) == run.parent / "scorer" and (run.parent / "scorer" / "hf" / "config.json").is_file()
    said = capsys.readouterr()
    assert "fitting it once" in said.err and said.out == ""
    weights = (run.parent / "scorer" / "model.safetensors").read_bytes()
    assert resolve_scorer(run, "local", None, None, None, False, "cpu") == who
    assert (run.parent / "scorer" / "model.safetensors").read_bytes() == weights
    *_, record = evaluate_run(plain(run, 4), who)
    assert (
        record["deviations"] == ["truncation 16 for 1024"] and record["scorer_is_disjoint"] is False
    )  # no scorer_holdout


def test_what_is_no_run_is_said_before_anything_is_fitted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no .*nowhere"):
        resolve_scorer(tmp_path / "nowhere", "local", None, None, None, False, "cpu")
    with pytest.raises(ValueError, match=r"no recipe\.yaml"):
        resolve_scorer(tmp_path, "local", None, None, None, False, "cpu")
    assert not (tmp_path.parent / "scorer").exists()


@pytest.mark.integration
@pytest.mark.parametrize("model", [3, "Autoencoder"])
def test_a_run_that_cannot_be_judged_is_said_before_anything_is_fitted(
    run: Path, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fitted(*_: Any) -> None:
        raise AssertionError("a scorer is fitted")

    monkeypatch.setattr("textflow.cli.scorers.fit_scorer", fitted)
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "recipe.yaml").write_text(
        yaml.safe_dump(yaml.safe_load((run / "recipe.yaml").read_text()) | {"model": model})
    )
    with pytest.raises(ValueError, match='"model".* got 3|writes no texts'):
        resolve_scorer(copy, "local", None, None, None, False, "cpu")


@pytest.mark.integration
def test_a_run_is_loaded_once_for_each_device_and_not_for_each_cell(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = [], textflow.run_folder.load
    monkeypatch.setattr(textflow.run_folder, "load", lambda *args: loads.append(args) or load(*args))
    list(evaluate_run(plain(run), judge(run, "elf")))
    assert len(loads) == 1
