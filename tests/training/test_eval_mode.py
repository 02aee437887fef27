"""Looking at a model changes nothing in it."""

import time

import torch

from tests.helpers.toy_run import Toy
from textflow.training.eval_mode import temporary_eval_mode


def test_looking_moves_no_stream_no_mode_and_keeps_no_gradient() -> None:
    model = Toy()
    model.train()
    model.net.eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with temporary_eval_mode(model):
        torch.rand(7)
        assert not model.training and not torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert model.training and not model.net.training and torch.is_grad_enabled()


def test_the_seconds_of_looking_add_up_after_an_error_too() -> None:
    model = Toy()
    for _ in range(2):
        try:
            with temporary_eval_mode(model):
                time.sleep(0.05)
                raise KeyError
        except KeyError:
            pass
    assert 0.1 <= model.eval_seconds < 5
