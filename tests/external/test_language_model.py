"""`textflow diagnose hf:FOLDER`: causal and masked language models, against what their definitions give."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, BertForMaskedLM, BertModel, GPT2Config, GPT2LMHeadModel

from tests.helpers.tiny_bert import save_bert
from tests.helpers.tiny_scorer import TEXT, save_scorer
from tests.helpers.user_errors import Fails, refused
from textflow.cli.app import main
from textflow.diagnostics.perturbation import covariance_root
from textflow.external.dependence import masked_tokens, next_tokens, parallel_cci, total_correlation
from textflow.external.language_model import LanguageModel, load_language_model
from textflow.external.sharpness import readout_sharpness
from textflow.noise import Noise

LINES = [TEXT, f"{TEXT} {TEXT}", " ".join(reversed(TEXT.split())), "void form"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scorer(tmp_path_factory.mktemp("causal"), length=32)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "masked", BertForMaskedLM, length=40)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts.txt").write_text("\n".join(LINES) + "\n")
    return tmp_path / "texts.txt"


def test_autoregressive_decoding_has_cci_1_and_parallel_decoding_less() -> None:
    assert parallel_cci(24, 1) == pytest.approx(1) and parallel_cci(24, 24) == 0
    assert parallel_cci(24, 6) == pytest.approx((1 - 1 / 4) * 24 / 23)  # four equal steps


def test_the_total_correlation_lies_between_its_bounds() -> None:
    """Two fair coins, the second a copy of the first with probability 3/4: ln 2 - H(1/4) nats."""
    known = 0.6931 - 0.5623
    first = torch.full((400, 2), 0.5).log()
    heads = torch.arange(400) % 2
    second = torch.where(torch.arange(2) == heads[:, None], 0.75, 0.25).log()
    result = total_correlation([first, second])
    assert_close(torch.stack([result.low[0], result.high[0]]), torch.zeros(2).double(), atol=1e-12, rtol=0)
    assert result.low[1] <= known + 1e-4 and result.high[1] >= known - 1e-4
    assert_close(result.low[1], result.high[1], atol=2e-3, rtol=0)
    assert float(result.joint[1]) == pytest.approx(0.6931 + 0.5623, abs=1e-3)
    alone = total_correlation([first, torch.eye(2).log()[heads]])  # a copy, without an infinite value
    assert float(alone.low[1]) == pytest.approx(0.6931, abs=1e-3)


def test_continuations_with_a_cache_have_the_laws_of_the_whole_text(causal: Path) -> None:
    lm = load_language_model(str(causal))
    prefix = lm.encode([TEXT], 32)[0][:5]
    laws = next_tokens(lm, prefix, 3, 2, Noise([0]))
    assert len(laws) == 3 and laws[0].shape == (2, lm.model.config.vocab_size)
    expected = lm.states(prefix[None])[1][0, -1].double().log_softmax(-1)
    assert_close(laws[0], expected.expand(2, -1))
    assert_close(laws[2], next_tokens(lm, prefix, 3, 2, Noise([0]))[2])
    assert not torch.equal(laws[2], next_tokens(lm, prefix, 3, 2, Noise([3]))[2])


def test_masked_tokens_are_read_given_those_drawn_before(masked: Path) -> None:
    lm = load_language_model(str(masked))
    ids = lm.encode([TEXT], 32)[0]
    positions = torch.tensor([2, 5])
    hidden = ids.index_fill(0, positions, lm.mask_id)
    first, second = masked_tokens(lm, hidden, positions, 8, Noise([0]))
    expected = lm.states(hidden[None])[1][0, 2].double().log_softmax(-1)
    assert_close(first, expected.expand(8, -1))
    assert not torch.equal(second[0], second[1])  # two draws of the first token


def test_errors_along_the_boundary_flip_from_its_distance_on(causal: Path) -> None:
    lm = load_language_model(str(causal))
    texts = [lm.states(ids[None])[0] for ids in lm.encode(LINES, 32)]
    cases = [(x, torch.ones(x.shape[:2], dtype=torch.bool)) for x in texts]
    results = {(result.error, result.length): result for result in readout_sharpness(lm.head, cases, range(4))}
    x = torch.cat([x[0] for x in texts])
    logits, weight = lm.head(x), lm.head.weight
    best, slopes = logits.argmax(-1), weight[logits.argmax(-1)][:, None] - weight[None]
    gaps = logits.gather(-1, best[:, None]) - logits
    distance = (gaps / slopes.norm(dim=-1)).scatter(-1, best[:, None], torch.inf).amin(-1)
    std = covariance_root(x).square().sum().sqrt()
    for length in (0.1, 0.3, 1.0):
        known = float((distance < length * std).double().mean())
        ratios = results["boundary", length].ratios
        assert all(ratio.numerator == pytest.approx(known) for ratio in ratios.values())
        assert known >= max(ratio.denominator for ratio in ratios.values())
    assert ("empirical posterior", 0.3) in results


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_diagnose_prints_and_writes_the_measures_of_each_kind(
    kind: str, texts: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    argv = ["diagnose", f"hf:{request.getfixturevalue(kind)}", "--data", str(texts), "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    results = json.loads((tmp_path / "out" / "diagnose.json").read_text())
    assert ("likelihood" in results) == (kind == "causal") and results["run"]["kind"] == kind
    assert results["cci"][0]["cci"] == pytest.approx(1)
    for row in results["dependence"]:
        assert 0 <= row["lost_at_least"] <= row["lost_at_most"] and row["joint_nats"] > row["lost_at_least"]
    assert {row["error"] for row in results["sharpness"]} == {"boundary", "empirical posterior"}
    assert main([*argv, "--measures", "dependence"]) == 0
    again = json.loads((tmp_path / "out" / "diagnose.json").read_text())
    assert again["dependence"] == results["dependence"]


def test_a_folder_without_a_language_model_is_one_line(
    causal: Path, masked: Path, texts: Path, tmp_path: Path, fails: Fails
) -> None:
    data = ["--data", str(texts)]
    (tmp_path / "empty").mkdir()
    fails(["diagnose", f"hf:{tmp_path / 'empty'}", *data], "no language model", "textflow fetch smollm2")
    encoder = shutil.copytree(masked, tmp_path / "encoder")
    BertModel(BertConfig.from_pretrained(masked)).save_pretrained(encoder)
    fails(["diagnose", f"hf:{encoder}", *data], "BertModel", "predicts no tokens")
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    fails(["diagnose", f"hf:{tmp_path / 'image'}", *data], "AutoencoderKL of diffusers", "image:")
    cut = shutil.copytree(causal, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((causal / "model.safetensors").read_bytes()[:-500])
    fails(["diagnose", f"hf:{cut}", *data], "no language model", "cut")
    fails(["diagnose", f"hf:{causal}"], "0 files", "--data FILE")
    fails(["diagnose", f"hf:{masked}", *data, "--measures", "likelihood"], "masked model")
    fails(
        ["diagnose", f"hf:{causal}", *data, "--measures", "stiffness"], "no measure 'stiffness'; there are likelihood"
    )


def test_a_gguf_file_that_is_cut_is_one_line(texts: Path, tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.gguf").write_bytes(b"GGUF" + bytes(60))
    fails(["diagnose", f"hf:{tmp_path / 'half'}", "--data", str(texts)], "model.gguf", "textflow[gguf]", "to be whole")


def test_a_tokenizer_of_another_vocabulary_is_one_line(causal: Path, texts: Path, tmp_path: Path, fails: Fails) -> None:
    other = shutil.copytree(causal, tmp_path / "other")
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=6, n_positions=32, n_embd=16, n_layer=1, n_head=2)).save_pretrained(other)
    fails(["diagnose", f"hf:{other}", "--data", str(texts)], "has 6 tokens", "another vocabulary")


def test_code_of_a_repository_runs_only_if_it_is_trusted_by_name(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A masked diffusion model with code of its own, as LLaDA has."""
    from textflow.config.trust import is_trusted

    folder = shutil.copytree(masked, tmp_path / "own")
    (folder / "modeling_own.py").write_text(
        "from transformers import BertConfig, BertForMaskedLM\n"
        "class OwnConfig(BertConfig):\n    model_type = 'own'\n"
        "class OwnModel(BertForMaskedLM):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    config |= {"model_type": "own", "auto_map": names, "architectures": ["OwnModel"], "mask_token_id": 4}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    refused("code of its repository.*TEXTFLOW_TRUST=", load_language_model, str(folder), "cpu", is_trusted(str(folder)))
    monkeypatch.setenv("TEXTFLOW_TRUST", f"other,{folder}")
    lm: LanguageModel = load_language_model(str(folder), "cpu", is_trusted(str(folder)))
    assert lm.kind == "masked" and type(lm.model).__name__ == "OwnModel"
