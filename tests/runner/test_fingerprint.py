from __future__ import annotations

import pytest
import torch

from mxbench.runner import fingerprint
from mxbench.runner.fingerprint import Fingerprint


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Fingerprint:
    monkeypatch.setattr(fingerprint, "CHUNK", 64)  # so that small tensors have several
    return Fingerprint("cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.float32])
@pytest.mark.parametrize("count", [0, 1, 7, 1001])
def test_any_changed_element_shows(take: Fingerprint, dtype: torch.dtype, count: int) -> None:
    tensor = (torch.arange(count) % 100).to(dtype)  # whole numbers of every dtype
    before = take(tensor)
    assert take(tensor.clone()) == before
    for place in {0, count // 2, count - 1} if count else set():
        changed = tensor.clone()
        changed[place] += 1
        assert take(changed) != before, place


def test_a_swap_shows(take: Fingerprint) -> None:
    tensor = torch.arange(1024, dtype=torch.float16)
    swapped = tensor.clone()
    swapped[[3, 700]] = tensor[[700, 3]]
    assert take(swapped) != take(tensor)


def test_chunks_that_change_places_show(take: Fingerprint) -> None:
    tensor = torch.arange(1024, dtype=torch.int64)
    assert take(tensor.view(16, 64).flip(0).contiguous().view(-1)) != take(tensor)


def test_nan_that_stays_is_no_change_and_another_nan_is(take: Fingerprint) -> None:
    tensor = torch.full((16,), float("nan"))
    before = take(tensor)
    assert take(tensor) == before
    tensor.view(torch.int32)[5] ^= 1
    assert take(tensor) != before


def test_another_shape_or_dtype_shows(take: Fingerprint) -> None:
    tensor = torch.zeros(4, 6, dtype=torch.float16)
    assert take(tensor.view(6, 4)) != take(tensor)
    assert take(tensor.view(torch.bfloat16)) != take(tensor)
