"""A run as a folder that safetensors and transformers read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import textflow
from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.word_tokenizer import Words
from textflow import run_folder
from textflow.cli.app import main
from textflow.config import recipe
from textflow.config.model import load_model
from textflow.config.schema import recipe_parser
from textflow.data import HFTokenizer, Tokenizer
from textflow.models.base import Trainable
from textflow.models.text_format import TextFormat
from textflow.training.weights import write_weights

pytestmark = pytest.mark.integration  # writes checkpoints and builds their recipes

CAUSAL = {"class_path": "CausalLM", "init_args": {"width": 16, "depth": 1, "heads": 2, "max_length": 8}}
MDLM = {
    "class_path": "DiscreteDiffusion",
    "init_args": {
        "net": {"class_path": "TokenDiT", "init_args": {"width": 16, "depth": 1, "heads": 2, "cond_width": 8}}
    },
}


def write_run(folder: Path, section: dict, tokenizer: Tokenizer) -> Trainable:
    """A run folder with random weights."""
    data = {"tokenizer": {"class_path": "SentencePiece"}, "seq_length": 8}
    tree = {"run": {"folder": str(folder)}, "data": data, "model": section, "trainer": {"max_steps": 1}}
    text = recipe.dump(recipe_parser().parse_object(tree))
    torch.manual_seed(0)
    model = load_model(text, tokenizer.vocab_size)
    for name, p in model.net.named_parameters():
        p.data.add_(0.1 * torch.randn_like(p))
        model.ema_net.get_parameter(name).data.copy_(p)
    model.text_format = TextFormat(seq_length=8)
    run_folder.write_run(folder, text, tokenizer, model, "a run")
    write_weights(folder / "model.safetensors", model.weights(), {})
    return model


@pytest.fixture
def words(tmp_path: Path) -> HFTokenizer:
    return HFTokenizer(str(save_scorer(tmp_path / "scorer")), pad_token="<eos>")


def test_transformers_reads_an_exported_causal_language_model(tmp_path: Path, words: HFTokenizer) -> None:
    model = write_run(tmp_path / "run", CAUSAL, words).eval()
    assert main(["convert", "run", str(tmp_path / "run"), "hf", str(tmp_path / "out")]) == 0
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=False).eval()
    ids = torch.arange(8)[None]
    assert torch.equal(read(input_ids=ids).logits, model.ema_net(input_ids=ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=False)
    assert tokenizer("God created")["input_ids"] == words.encode(["God created"])[0]


def test_an_exported_run_of_another_model_holds_the_same_weights_and_loads_as_a_run(tmp_path: Path) -> None:
    model = write_run(tmp_path / "run", MDLM, Words(["<eos>", *"abcdef"]))
    assert main(["convert", "run", str(tmp_path / "run"), "hf", str(tmp_path / "out")]) == 0
    tensors, weights = load_file(tmp_path / "out" / "model.safetensors"), model.weights()
    assert tensors.keys() == weights.keys() and all(torch.equal(tensors[name], weights[name]) for name in weights)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["DiscreteDiffusion"] and config["vocab_size"] == 7
    assert config["model"]["init_args"]["net"]["init_args"]["width"] == 16
    with pytest.raises(ValueError, match="textflow"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=False)
    one, other = (textflow.load(folder).sample_ids([3], 2) for folder in (tmp_path / "run", tmp_path / "out"))
    assert torch.equal(one, other)


def test_half_precision_halves_the_weights_and_the_card_names_the_licence(tmp_path: Path) -> None:
    model = write_run(tmp_path / "run", MDLM, Words(["<eos>", *"abcdef"]))
    options = ["--half", "true", "--license", "apache-2.0"]
    assert main(["convert", "run", str(tmp_path / "run"), "hf", str(tmp_path / "out"), *options]) == 0
    tensors, weights = load_file(tmp_path / "out" / "model.safetensors"), model.weights()
    for name, weight in weights.items():
        assert torch.equal(tensors[name], weight.half() if weight.is_floating_point() else weight), name
    read = textflow.load(tmp_path / "out")
    assert {p.dtype for p in read.parameters()} == {torch.float32} and read.sample_ids([3], 2).shape == (1, 8)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in text and "placeholder" not in text


def test_the_card_has_the_metrics_the_recipe_and_a_placeholder_for_the_licence(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, MDLM, Words(["<eos>", *"abcdef"]))
    (run / "metrics.csv").write_text("step,name,value\n5,val/loss,4.5\n9,train/loss,3.0\n10,val/loss,4.25\n")
    record = {"text": "generated", "perplexity": 12.34, "entropy": 3.0, "steps": 8, "n": 16, "protocol": "local"}
    (run / "eval").mkdir()
    for name, values in (("a", record), ("b", record | {"text": "real", "perplexity": 99.0})):
        (run / "eval" / f"{name}.json").write_text(json.dumps(values))
    assert main(["convert", "run", str(run), "hf", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- val/loss: 4.25 at step 10" in card and "train/loss" not in card
    assert "- perplexity 12.34, entropy 3 (8 steps, the recipe's sampler, n = 16, protocol local)" in card
    assert "99" not in card.split("## Recipe")[0] and "license: other" in card
    assert (run / "recipe.yaml").read_text() in card


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["RUN", "onnx", "OUT"], "unexpected argument"),
        (["RUN", "OUT"], "convert run RUN hf FOLDER"),
        (["nowhere", "hf", "OUT"], "nowhere holds no trained run"),
        (["RUN", "hf", "RUN"], "is not empty"),
    ],
)
def test_other_exports_are_refused_in_one_line(
    tmp_path: Path, argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "RUN", MDLM, Words(["<eos>", *"abcdef"]))
    words = [str(tmp_path / word) if word in ("RUN", "OUT") else word for word in argv]
    assert main(["convert", "run", *words]) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
    assert not (tmp_path / "OUT").exists()
