import math

import torch

from textflow.metrics import num_recovered, token_recovery

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
DECODED = torch.tensor([[1, 2, 0, 0], [5, 6, 0, 0], [0, 0, 9, 0]])


def test_the_share_is_over_tokens_of_text_with_its_interval() -> None:
    assert num_recovered(DECODED, IDS, MASK).tolist() == [2, 2, 1]
    share = token_recovery(DECODED, IDS, MASK)
    assert math.isclose(share.value, 5 / 9) and share.low < share.value < share.high  # type: ignore[operator]
    assert token_recovery(IDS, IDS, MASK) == (1, 1, 1)
    assert token_recovery(IDS, IDS, torch.zeros_like(MASK)).value == 0
