"""Image generators: networks read from weights alone, and a response whose value is known."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.helpers.dcgan import dcgan, weights_of
from tests.helpers.user_errors import refused
from textflow.external import image_generator
from textflow.external.image_generator import (
    ImageGenerator,
    generator_response,
    load_eyes,
    load_faces,
    load_mobilestylegan,
    make_dcgan,
)


def test_networks_are_rebuilt_from_their_weights(tmp_path: Path) -> None:
    faces, eyes = dcgan(100), dcgan(108, dropout=True)
    torch.save({"epoch": 3, "netG_state_dict": weights_of(faces)}, tmp_path / "weights.tar")
    torch.save(weights_of(eyes), tmp_path / "generator_model_state.pth", _use_new_zipfile_serialization=False)
    z = load_faces(tmp_path).draw([0, 1])
    assert_close(load_faces(tmp_path).decode(z), faces(z[..., None, None]))
    colour = torch.eye(8)[2].expand(2, -1)
    assert_close(load_eyes(tmp_path).decode(z), eyes(torch.cat([z, colour], 1)[..., None, None]))
    assert_close(load_faces(tmp_path).draw([1])[0], z[1])


def test_a_damaged_file_and_a_missing_package_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.tar").write_bytes(b"no weights")
    refused("weights.tar holds no weights of a generator.*fetch it again", load_faces, tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    refused(r"pip install 'textflow\[openvino\]'", load_mobilestylegan, tmp_path)


def test_the_covariance_control_undoes_the_stretch_of_the_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine of ten latent coordinates hardly vary, and the decoder ignores them: isotropic errors miss what it reads."""
    monkeypatch.setattr(image_generator, "BANK_SIZE", 256)
    scale = torch.tensor([3.0] + [0.01] * 9)

    def decode(x: torch.Tensor) -> torch.Tensor:
        return x[:, :1, None, None].expand(-1, 3, 2, 2) / 3

    generator = ImageGenerator(10, lambda z: z * scale, decode)
    (result,) = generator_response(generator, 64, 0, (0.5,))
    assert result.ratios["isotropic"].value == pytest.approx(10, rel=0.4)
    assert result.ratios["covariance"].value == pytest.approx(1, rel=0.05)
    assert 0 < result.ratios["isotropic"].numerator < 2 and result.ratios["isotropic"].size.num_sequences == 64
    assert 1 <= result.ratios["shuffled"].value < 2  # a short residual of another image points elsewhere


def test_layers_without_batch_norm_or_with_a_bias_keep_their_weights() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(5, 3, 4, 1, 0), nn.Tanh())
    z = torch.randn(2, 5, 1, 1)
    assert_close(make_dcgan(net.state_dict())(z), net(z))
