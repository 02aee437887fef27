"""`textflow diagnose image:FOLDER`: autoencoders of diffusers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.external.image_decoder import ImageDecoder, image_response, read_images


class Scale(torch.nn.Module):
    """An "autoencoder" that takes every second pixel, and doubles a latent's first channel when it decodes."""

    device = torch.device("cpu")

    def encode(self, images: torch.Tensor) -> object:
        return type("Out", (), {"latent": images[..., ::2, ::2]})()

    def decode(self, latents: torch.Tensor) -> object:
        return type("Out", (), {"sample": latents * torch.tensor([2.0, 1.0, 1.0])[:, None, None]})()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    stream = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(stream.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_images_are_squares_between_minus_one_and_one(images: Path) -> None:
    parts = read_images(images, 16, 4)
    assert [part.shape for part in parts] == [(1, 3, 16, 16)] * 4
    assert all(-1 <= part.min() < -0.5 and 0.5 < part.max() <= 1 for part in parts)


def test_a_smooth_decoder_has_no_special_direction(images: Path) -> None:
    results = image_response(ImageDecoder("scale", Scale()), read_images(images, 16, 6), list(range(6)))
    assert [result.length for result in results] == [0.1, 0.3, 1.0]
    for ratio in results[-1].ratios.values():
        assert ratio.numerator > 0 and ratio.value == pytest.approx(1, abs=0.25)


def test_text_and_other_models_are_one_line(tmp_path: Path, images: Path, fails: Fails) -> None:
    (tmp_path / "texts.txt").write_text("a ring\n")
    with pytest.raises(ValueError, match="takes no text"):
        read_images(tmp_path / "texts.txt", 16, 4)
    (images / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png is not an image"):
        read_images(images / "broken.png", 16, 4)
    fails(["diagnose", f"image:{tmp_path}"], "0 files", "--data FOLDER")
    fails(["diagnose", f"image:{tmp_path}", "--data", str(images)], "diffusers")


@pytest.mark.integration
def test_an_autoencoder_of_diffusers_is_measured(images: Path, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8,), "norm_num_groups": 4, "sample_size": 16, "latent_channels": 3}
    diffusers.AutoencoderKL(**sizes).save_pretrained(tmp_path / "kl")
    argv = ["diagnose", f"image:{tmp_path / 'kl'}", "--data", str(images), "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    results = json.loads((tmp_path / "out" / "diagnose.json").read_text())
    assert [row["sd"] for row in results["dabi"]] == [0.1, 0.3, 1.0] and results["run"]["n"] == 6
    assert all(0 < row["DABI_covariance"] < 3 for row in results["dabi"] if row["DABI_covariance"] is not None)
