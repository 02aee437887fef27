"""From a run to records by each protocol; the scorer is a tiny GPT-2 in a folder, with the code path of gpt2-large."""

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
from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.user_errors import refused
from textflow.cli.options import configure_sampling
from textflow.cli.scorers import resolve_scorer
from textflow.eval.parallel import SamplingConfig, SamplingJob
from textflow.eval.protocol import load_protocol, protocol_names
from textflow.eval.scoring import ScorerConfig, evaluate_file, evaluate_run

NEEDED = ("protocol", "deviations", "checkpoint_hash", "recipe", "seq_length", "tokenizer", "seed", "n", "scorer")
NEEDED += ("scorer_revision", "scorer_dtype", "scorer_hash", "truncation", "aggregation", "entropy_ids", "textflow")


pytestmark = pytest.mark.integration


def scorer_config(text: Path, name: str, **changes: object) -> ScorerConfig:
    config: ScorerConfig = resolve_scorer(text, name, str(text.parent / "tiny_scorer"), None, None, False, "cpu")
    return replace(config, **changes)  # type: ignore[arg-type]


def job(run: Path, n: int = 6, seed: int = 0, steps: tuple[int, ...] = (1,)) -> SamplingJob:
    return SamplingJob(run, steps, n, [SamplingConfig(lambda generator: None)], seed, batch_size=4)


@pytest.mark.parametrize("name", [name for name in protocol_names() if name != "stories"])
def test_each_protocol_writes_records_with_one_load(run: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = [], textflow.run_folder.load
    monkeypatch.setattr(textflow.run_folder, "load", lambda *args: loads.append(args) or load(*args))
    records = list(evaluate_run(job(run, steps=(1, 2)), scorer_config(run, name)))
    assert len(loads) == 1
    texts = [(r["text"], r.get("steps")) for r in records]
    assert texts == [("real", None), ("shuffled", None), ("generated", 1), ("generated", 2)]
    protocol, written = load_protocol(name), [json.loads(path.read_text()) for path in (run / "eval").glob("*.json")]
    for record in records:
        assert record in written and all(key in record for key in NEEDED)
        assert (record["protocol"], record["token_weighting"]) == (name, protocol.token_weighting)
        assert (record["entropy_ids"], record["scorer_dtype"]) == (protocol.entropy_ids, protocol.dtype)
        assert record["truncation"] == 8 and record["entropy"] == record[f"entropy_{protocol.entropy_ids}"]
        assert {f"n 6 for {protocol.n}", f"truncation 8 for {protocol.truncation}"} <= set(record["deviations"])
        assert (record.get("memorized_4grams") is not None) == protocol.memorization and 0 <= record["recovery"] <= 1
    for record in records[2:]:
        assert record["sampler"]["class"] and record["time_grid"]["times"] and record["nfe"] >= 2
        assert (run / record["samples"] / "point.json").is_file()


def test_more_of_real_text_than_of_its_shuffled_words_is_memorized(run: Path) -> None:
    real, shuffled, *_ = evaluate_run(job(run, 20), scorer_config(run, "local"))
    share, shuffled_share = real["memorized_4grams"], shuffled["memorized_4grams"]
    low, high = real["intervals"]["memorized_4grams"]
    assert (share > shuffled_share or share == shuffled_share == 0) and low <= share <= high


def test_an_interrupted_run_resumes_with_the_same_samples_and_numbers(run: Path) -> None:
    def untimed() -> dict[str, Any]:
        *_, record = evaluate_run(job(run, 9, seed=5), scorer_config(run, "elf"))
        return {key: value for key, value in record.items() if key not in ("seconds", "intervals")}

    expected = untimed()
    for file in sorted((run / expected["samples"]).glob("*.jsonl"))[1:]:
        file.unlink()
    assert untimed() == expected


@pytest.mark.slow  # each process imports torch
def test_two_devices_give_the_samples_of_one(run: Path) -> None:
    records = list(evaluate_run(job(run, 10, 6, (1, 2)), scorer_config(run, "elf")))[2:]
    files = [file for r in records for file in sorted((run / r["samples"]).glob("*.jsonl"))]
    ids = [[json.loads(line)["ids"] for line in file.read_text().splitlines()] for file in files]
    for file in files:
        file.unlink()
    config = SamplingConfig(partial(configure_sampling, name="recipe", gamma=None, sweep={}))
    parallel = replace(job(run, 10, 6, (1, 2)), sampling_configs=[config])
    list(evaluate_run(parallel, scorer_config(run, "elf"), ["cpu", "cpu"]))
    assert [[json.loads(line)["ids"] for line in file.read_text().splitlines()] for file in files] == ids


def test_a_sweep_sets_one_number_in_each_config(run: Path) -> None:
    configs = [
        SamplingConfig(partial(configure_sampling, name="reinject", gamma=9.0, sweep={"gamma": g}), {"gamma": g})
        for g in (0.0, 2.0)
    ]
    sweep = replace(job(run, steps=(3,)), sampling_configs=configs)
    *_, first, second = evaluate_run(sweep, scorer_config(run, "elf"))
    assert (first["sampler"]["gamma"], second["sampler"]["gamma"]) == (0.0, 2.0)
    assert first["sweep"] == {"gamma": 0.0} and first["samples"] != second["samples"]


def test_mauve_has_an_interval_and_needs_enough_samples(run: Path) -> None:
    with pytest.raises(ValueError, match="needs 5000 samples and got 6: -n 5000"):
        list(evaluate_run(job(run), scorer_config(run, "elf", mauve=True)))
    protocol = replace(load_protocol("elf"), mauve_samples=20)
    *_, record = evaluate_run(job(run, 20), scorer_config(run, "elf", mauve=True, protocol=protocol))
    low, high = record["intervals"]["mauve"]
    assert 0 <= record["mauve"] <= 1 and low <= record["mauve"] <= high


def test_a_file_of_too_few_texts_needs_n_and_its_record_is_marked(run: Path) -> None:
    file = run.parent / "made.jsonl"
    file.write_text('{"text": "in the beginning God"}\n{"text": ""}\n"earth"\n{"text": "torn')
    config = scorer_config(file, "elf")
    refused("holds 3 readable texts, protocol elf needs 1000: .*-n 3", evaluate_file, file, config)
    record = evaluate_file(file, config, 3)
    assert record["deviations"][-1] == "n 3 for 1000" and record["empty"] == 1 and record["unreadable"] == 1
    assert record["unreadable_lines"][0].startswith(f"{file}:4: not JSON") and record["perplexity"] > 1
    assert record["file_hash"] == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert len(list((run.parent / "made.eval").glob("file-*.json"))) == 1
    refused("-n asks for 4", evaluate_file, file, config, 4)


def test_the_generators_entropy_of_a_file_needs_ids_in_each_line(run: Path) -> None:
    file = run.parent / "ids.jsonl"
    file.write_text('{"text": "in the beginning", "ids": [1, 1]}\n{"text": "God", "ids": [2, 2]}\n')
    config = scorer_config(file, "mdlm")
    assert evaluate_file(file, config, 2)["entropy"] == 0
    file.write_text('{"text": "in the beginning"}\n{"text": "God", "ids": [2, 2]}\n')
    assert evaluate_file(file, config, 2)["entropy"] is None


def test_a_missing_local_scorer_is_fitted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = {"class_path": "SentencePiece", "init_args": {"vocab_size": 310}}
    data = {"tokenizer": tokenizer, "seq_length": 16, "batch_size": 4}
    model = {"class_path": "CausalLM", "init_args": {"width": 16, "depth": 1, "heads": 2, "max_length": 16}}
    trainer = {"max_steps": 2, "val_check_interval": 2, "accelerator": "cpu", "enable_progress_bar": False}
    (tmp_path / "scorer.yaml").write_text(yaml.safe_dump({"data": data, "model": model, "trainer": trainer}))
    (tmp_path / "protocols").mkdir()
    protocol = "{scorer: local, token_weighting: local, entropy_ids: scorer, n: 4}"
    (tmp_path / "protocols" / "local.yaml").write_text(protocol)
    monkeypatch.setattr("textflow.eval.protocol.PROTOCOL_FOLDER", tmp_path / "protocols")
    folder = run.parent / "scorer"
    config = resolve_scorer(run, "local", None, None, None, False, "cpu")
    assert Path(config.model) == folder and (folder / "hf" / "config.json").is_file()
    output = capsys.readouterr()
    assert "fitting it once" in output.err and output.out == ""
    weights = (folder / "model.safetensors").read_bytes()
    assert resolve_scorer(run, "local", None, None, None, False, "cpu") == config
    assert (folder / "model.safetensors").read_bytes() == weights
    *_, record = evaluate_run(job(run, 4), config)
    assert record["deviations"] == ["truncation 16 for 1024"]
    assert record["scorer_is_disjoint"] is False  # no scorer_holdout


def test_the_scorer_of_a_protocol_may_be_a_folder_and_a_missing_one_names_its_download(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = (None, None, None, False, "cpu")
    refused("checkpoints/smollm2; fetch it: textflow fetch smollm2", resolve_scorer, run, "smollm", *options)
    save_scorer(tmp_path / "checkpoints" / "smollm2")
    real, shuffled, made = evaluate_run(job(run), resolve_scorer(run, "smollm", *options))
    assert real["deviations"] == ["truncation 8 for 1024", "n 6 for 256"] and real["scorer"] == "checkpoints/smollm2"
    for record in (real, shuffled, made):
        low, high = record["intervals"]["bits_per_character"]
        assert 0 < low <= record["bits_per_character"] <= high


def test_a_folder_without_a_run_is_refused_before_fitting(tmp_path: Path) -> None:
    refused("there is no .*nowhere", resolve_scorer, tmp_path / "nowhere", "local", None, None, None, False, "cpu")
    refused(r"no recipe\.yaml", resolve_scorer, tmp_path, "local", None, None, None, False, "cpu")
    assert not (tmp_path.parent / "scorer").exists()


@pytest.mark.parametrize("model", [3, "Autoencoder"])
def test_a_run_without_texts_is_refused_before_fitting(
    run: Path, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textflow.cli.scorers.fit_scorer", lambda *_: pytest.fail("a scorer is fitted"))
    copy = shutil.copytree(run, tmp_path / "run")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text()) | {"model": model}
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match='"model".* got 3|writes no texts'):
        resolve_scorer(copy, "local", None, None, None, False, "cpu")
