"""A tiny DCGAN and its weights."""

import torch
from torch import nn


def dcgan(inputs: int, dropout: bool = False) -> nn.Sequential:
    """A DCGAN as people write it, with random statistics; layers that hold no weights shift the numbers of others."""
    torch.manual_seed(0)
    rest = [nn.Dropout(0.2)] if dropout else []
    first = [nn.ConvTranspose2d(inputs, 4, 4, 1, 0, bias=False), nn.BatchNorm2d(4), nn.ReLU(), *rest]
    net = nn.Sequential(*first, nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), nn.Tanh())
    net(torch.randn(8, inputs, 1, 1))  # moves the running statistics
    return net.eval()


def weights_of(net: nn.Sequential) -> dict[str, torch.Tensor]:
    """Its weights under the names of the usual files."""
    return {f"main.{name}": tensor for name, tensor in net.state_dict().items()}
