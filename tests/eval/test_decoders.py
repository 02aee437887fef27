"""Decoders of packages on one scale: tiny random weights in the place of the fetched ones."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import BertModel

from tests.helpers.dcgan import dcgan, weights_of
from tests.helpers.tiny_bert import save_bert
from tests.helpers.tiny_scorer import TEXT, save_scorer
from tests.helpers.user_errors import refused
from textflow.eval import decoders
from textflow.eval.decoder_table import make_record
from textflow.eval.decoders import DECODERS
from textflow.eval.figures import fig7
from textflow.eval.figures.decoder_claims import cci_claims, dabi_claims
from textflow.external import image_generator, packages


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as `textflow fetch` writes them, but of MobileStyleGAN, and the table of their files."""
    parent = tmp_path_factory.mktemp("fetched")
    (parent / "gan-face").mkdir()
    torch.save({"netG_state_dict": weights_of(dcgan(100))}, parent / "gan-face" / "weights.tar")
    save_scorer(parent / "smollm2", length=64)
    save_bert(parent / "minilm", BertModel, length=80)
    words, lines = TEXT.split(), []
    for i in range(24):
        lines.append(json.dumps({"title": str(i), "text": " ".join(words[i % 5 :] + words[: i % 7])}))
    (parent / decoders.WIKI).mkdir()
    (parent / decoders.WIKI / "texts.jsonl").write_text("\n".join(lines))
    table = {}
    for folder in sorted(parent.iterdir()):
        file = next(path for path in sorted(folder.iterdir()) if path.suffix in (".tar", ".safetensors", ".jsonl"))
        entry = {"inside": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": 1}
        table[folder.name] = {"about": "tiny", "package": f"tiny-{folder.name}", "version": "1.0", "bytes": 2_000_000}
        table[folder.name] |= {"licence": "MIT", "files": {file.name: entry}}
    table["mobilestylegan"] = table["gan-face"] | {"package": "tiny-style"}
    (parent / "packages.yaml").write_text(yaml.safe_dump(table))
    return parent


@pytest.fixture(scope="module")
def records(fetched: Path) -> list[dict[str, Any]]:
    """Records of the tiny decoders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packages, "TABLE", fetched / "packages.yaml")
        patch.setattr(image_generator, "BANK_SIZE", 64)
        patch.setattr(decoders, "BANK_TEXTS", 12)
        patch.setattr(decoders, "FIT_TEXTS", 16)
        names = ("gan-face", "smollm2-table", "minilm", "smollm2-head")
        return [DECODERS[name].record(name, DECODERS[name].folders(fetched), 8, 0) for name in names]


@pytest.mark.integration
def test_a_record_holds_raw_rates_before_ratios_of_three_controls(records: list[dict[str, Any]]) -> None:
    assert [record["cci"] for record in records] == [0, 0, 0, 1]
    for record in records:
        for row in record["rows"]:
            assert row["error"] == "empirical posterior" and row[record["unit"]] >= 0
            for control in fig7.CONTROLS:
                value, random = row[f"DABI_{control}"], row[control]
                assert value is None or value == pytest.approx(row[record["unit"]] / random)
    assert records[2]["readout_accuracy"] > 0.3
    assert records[0]["weights"] == "tiny-gan-face 1.0"


def test_weights_that_were_not_fetched_are_named_with_the_command(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "TABLE", fetched / "packages.yaml")
    command = r"no weights.tar in .*textflow fetch mobilestylegan \(2 MB, MIT\)"
    refused(command, DECODERS["mobilestylegan"].folders, tmp_path)
    (tmp_path / "gan-face").mkdir()
    (tmp_path / "gan-face" / "weights.tar").write_bytes(b"other")
    refused("is not the file of tiny-gan-face", DECODERS["gan-face"].folders, tmp_path)


def decoder(name: str, family: str, value: float | None, cci: float = 0.0) -> dict[str, Any]:
    """Record of a decoder with one ratio to every control, 0.9 to 1.1 times which is its interval."""
    row: dict[str, Any] = {"error": "denoiser", "flips": 0.5, "n": 100}
    for control in fig7.CONTROLS:
        low, high = (20.0, None) if value is None else (0.9 * value, 1.1 * value)
        row |= {control: 0.1, f"DABI_{control}": value, f"DABI_{control}_low": low, f"DABI_{control}_high": high}
    about = {"name": name, "label": name, "family": family, "cci": cci, "unit": "flips", "weights": "tiny 1.0"}
    return about | {"rows": [row], "n": 8, "seconds": 1.0}


def test_a_residual_that_flips_too_little_for_a_ratio_is_not_the_one_that_is_drawn() -> None:
    few, more = decoder("few", "continuous text", None), decoder("more", "continuous text", 4.0)
    few["rows"][0] |= {"flips": 0.0002} | {f"DABI_{control}_low": 0.0 for control in fig7.CONTROLS}
    assert fig7.main_row(few | {"rows": [*few["rows"], *more["rows"]]}) == more["rows"][0]
    assert fig7.main_row(more | {"rows": [*more["rows"], *few["rows"]]}) == more["rows"][0]
    assert fig7.main_row(few) == few["rows"][0], "none has a ratio"


def verdicts(*found: dict[str, Any]) -> list[bool | None]:
    return [claim.holds for claim in dabi_claims({"decoders": list(found)})]


def test_the_claims_on_decoders_follow_their_numbers() -> None:
    image, text = decoder("image", "image", 1.0), decoder("text", "continuous text", 8.0)
    assert verdicts(image, text) == [True, True, True] * 2 + [False]
    assert verdicts(decoder("image", "image", 3.0), decoder("text", "continuous text", 1.0)) == [
        *([False, None, False] * 2),
        False,
    ]
    assert verdicts(image, decoder("text", "continuous text", None)) == [True, True, True] * 2 + [None]
    assert verdicts(image) == [True, True], "without text there is nothing to claim about it"
    assert verdicts(decoder("image", "image", 1.5), decoder("text", "continuous text", 1.6))[2] is None, "they overlap"
    silent = decoder("silent", "continuous text", None)
    silent["rows"][0]["flips"] = 0.0
    assert verdicts(image, silent) == [True, True], "an error that flips nothing decides nothing"
    (claim, *_) = dabi_claims({"decoders": [text]})
    assert claim.sentence.startswith("holds: DABI of continuous text is above 1")
    assert "text 8.0 [7.2, 8.8]" in claim.measured


def test_cci_must_be_ordered_and_choices_must_matter() -> None:
    rows = [{"method": "autoregressive", "nll": 1.2, "ablated_nll": 5.8}]
    models = [decoder("image", "image", 1.0), decoder("lm", "autoregressive", 1.0, 1.0)]
    masked = decoder("masked", "token diffusion", 1.0, 0.9)
    assert [claim.holds for claim in cci_claims({"rows": rows, "decoders": models})] == [None, True], "none between"
    assert [claim.holds for claim in cci_claims({"rows": rows, "decoders": [*models, masked]})] == [True, True]
    rows[0]["ablated_nll"] = 1.3
    masked["cci"] = 0.0
    assert [claim.holds for claim in cci_claims({"rows": rows, "decoders": [*models, masked]})] == [False, False]


def test_the_table_gives_rates_ratios_and_floors() -> None:
    claims = list(dabi_claims({"decoders": [decoder("text", "continuous text", None)]}))
    record = make_record([decoder("text", "continuous text", None)], claims, 8, 0, "cpu")
    (row,) = record["tables"]["decoders"]["rows"].values()
    assert row["along"] == "50.00%" and row["isotropic"] == "10.00%"
    assert row["dabi_covariance"] == "at the floor (>= 20)"
    assert record["tables"]["claims"]["rows"]["claim_0"]["verdict"] == "holds"


@pytest.mark.integration
def test_the_map_is_drawn_with_its_caption(records: list[dict[str, Any]], tmp_path: Path) -> None:
    floor = decoder("floor", "token diffusion", None, 0.9)
    fig7.draw({"decoders": [*records, floor]}, tmp_path / "fig7")
    assert (tmp_path / "fig7.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "fig7.svg").stat().st_size > 9e3
