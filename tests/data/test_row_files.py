"""Row files: any number of ranks reads the same rows; batches are small; damage is named."""

from itertools import chain, islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from textflow.data import DataModule
from textflow.data.row_file import RowFile, RowWriter, ids_dtype


def on_rank(module: DataModule, rank: int, world_size: int) -> DataModule:
    """A module as a rank uses it."""
    progress = SimpleNamespace(total=SimpleNamespace(processed=0))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    ranks = {"global_rank": rank, "world_size": world_size, "accumulate_grad_batches": 1}
    module.trainer = SimpleNamespace(**ranks, fit_loop=loop)  # type: ignore[assignment]
    return module


def first_rows(module: DataModule, num_batches: int) -> list[list[int]]:
    return list(chain(*(batch.ids.tolist() for batch in islice(module.train_dataloader(), num_batches))))


@pytest.mark.integration
@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 2), (5, 0)])
def test_a_run_resumes_with_the_same_rows_on_other_ranks(data: Any, world_size: int, num_workers: int) -> None:
    ranks = [on_rank(data(num_workers=num_workers), rank, world_size) for rank in range(world_size)]
    for module in ranks:
        module.load_state_dict({"rows_consumed": 44})
    rows = [first_rows(module, 3) for module in ranks]
    assert {len(part) for part in rows} == {12}
    expected = first_rows(data(), (44 + 12 * world_size) // 4 + 1)[44 : 44 + 12 * world_size]
    assert sorted(chain(*rows)) == sorted(expected)


def test_a_batch_travels_as_ids_and_lengths_and_its_mask_is_made_on_the_device(data: Any) -> None:
    module = data(seq_length=64, batch_size=8, pack=False)
    packed = next(iter(module.train_dataloader()))
    assert sum(part.nbytes for part in packed if part is not None) == 8 * 64 * 2 + 8 * 4
    batch = module.on_after_batch_transfer(type(packed)(*(None if p is None else p.to("meta") for p in packed)), 0)
    assert batch.mask.is_meta and batch.mask.shape == (8, 64) and batch.ids.is_meta and batch.ids.dtype == torch.int64


@pytest.mark.parametrize("position", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_changed_byte_of_the_rows_is_named_or_changes_nothing(data: Any, position: float) -> None:
    module = data()
    expected, path = first_rows(module, 60), module.rows_folder / "train.arrow"
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    try:
        module.setup()
        rows = first_rows(module, 60)
    except ValueError as error:
        assert "train.arrow is damaged" in str(error) and f"remove the folder {module.rows_folder}" in str(error)
    else:
        assert rows == expected


def test_truncated_rows_and_statistics_are_named(data: Any) -> None:
    module = data()
    for name in ("train.arrow", "stats.json"):
        path = module.rows_folder / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=f"{name} is damaged .*remove the folder .* builds it again"):
            module.setup()
        path.write_bytes(content)


def test_ids_have_the_smallest_type() -> None:
    for vocab, dtype in ((258, "uint16"), (65535, "uint16"), (65536, "int32"), (10**6, "int32")):
        assert ids_dtype(vocab).__name__ == dtype


def test_rows_are_read_in_any_order_across_record_batches(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textflow.data.row_file.BATCH_IDS", 40)  # five rows of eight
    rows = np.arange(23 * 8, dtype=np.uint16).reshape(23, 8)
    with RowWriter(tmp_path / "r.arrow", 8, np.uint16) as writer:
        for start, stop in ((0, 1), (1, 2), (2, 14), (14, 23)):
            writer.write(rows[start:stop], np.arange(start, stop, dtype=np.int32))
    file = RowFile(tmp_path / "r.arrow")
    assert len(file) == 23 and len(file.ids) == 5
    for order in ([22, 0, 7], [4, 5], list(range(23))):
        assert file[order].ids.tolist() == rows[order].tolist() and file[order].lengths.tolist() == order
