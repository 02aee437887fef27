"""Training with an optional backend, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def script(code: str, *args: str) -> None:
    """Run in a process without checks of shapes, which torch.compile cannot trace."""
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.integration
def test_an_optional_package_is_imported_only_for_its_option() -> None:
    script(
        "import sys, torch\n"
        "from textflow.codecs import LatentSpace\n"
        "from textflow.nets import ELF\n"
        "ELF(LatentSpace(12, 50), 16, 2, 2, 8)(torch.randn(2, 3, 12), torch.rand(2)).mean.sum().backward()\n"
        "imported = {name.split('.')[0] for name in sys.modules} & {'liger_kernel', 'triton', 'flash_attn'}\n"
        "assert not imported, imported"
    )


STEPS = """
import sys
import torch
from textflow.codecs import LatentSpace
from textflow.nets import ELF
from textflow.layers import kernels as gpu
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.types import Batch

device, options = sys.argv[1], {sys.argv[2]: sys.argv[3]}
if device == "cpu":
    gpu.cuda = lambda x: True  # compiled the same way, only not recorded
weights = []
for options in ({}, options):
    torch.manual_seed(0)
    net = ELF(LatentSpace(12, 50), 16, 2, 2, 8, **options).to(device)
    torch.nn.init.normal_(net.out.weight, std=0.02)
    optimizer, objective = torch.optim.SGD(net.parameters(), 0.1), ELFObjective(row_assignment="stratified")
    for step in range(6):
        for micro in range(2):  # as in Lightning, gradients are cleared after the first forward pass
            torch.manual_seed(10 * step + micro)
            x, ids = torch.randn(10, 6, 12), torch.randint(50, (10, 6))
            draws = type(draws := objective.sample_draws(x))(*(part.to(device) for part in draws))
            batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool)).map(lambda part: part.to(device))
            loss = objective.loss(net, LinearPath(), x.to(device), batch, draws)["loss"]
            if micro == 0:
                optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
plain, faster = weights
torch.testing.assert_close(faster, plain, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
def test_graphs_train_as_plain_blocks_on_a_cpu() -> None:
    script(STEPS, "cpu", "compile_blocks", "graphs")


@pytest.mark.gpu
@needs_gpu
def test_graphs_train_as_plain_blocks() -> None:
    script(STEPS, "cuda", "compile_blocks", "graphs")


@pytest.mark.gpu
@needs_gpu
def test_fused_kernels_train_as_those_of_torch() -> None:
    pytest.importorskip("liger_kernel")
    script(STEPS, "cuda", "kernels", "liger")
