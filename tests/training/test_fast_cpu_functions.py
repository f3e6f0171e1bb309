"""Dropout masks from 16 random bits each, and memory that is used again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from generalad.training.fast_cpu_functions import Scratch, fill_mask, keep_share


def mask_of(rate: float, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return fill_mask(torch.full(shape, 7, dtype=dtype), rate, Scratch())


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.75, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kept_part_is_that_of_the_rate(rate: float, dtype: torch.dtype) -> None:
    mask = mask_of(rate, 1000, 1000, dtype=dtype).float()
    assert bool(((mask == 0) | (mask == 1)).all())
    assert keep_share(rate) == pytest.approx(1 - rate, abs=1 / 131_072)
    error = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert abs(float(mask.mean()) - keep_share(rate)) < 5 * error
    # The four decisions of one draw are as likely as each other, and rows as well.
    assert bool(((mask.view(-1, 4).mean(0) - keep_share(rate)).abs() < 10 * error).all())


def test_the_decisions_of_one_draw_are_independent() -> None:
    four = mask_of(0.3, 250_000, 4)
    covariance = torch.cov(four.T)
    expected = torch.eye(4) * 0.3 * 0.7
    torch.testing.assert_close(covariance, expected, rtol=0, atol=5 * 0.21 / 250_000**0.5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 1023])
def test_any_number_of_decisions(count: int) -> None:
    mask = mask_of(0.5, count)
    assert mask.shape == (count,)
    assert set(mask.tolist()) <= {0.0, 1.0}


def test_the_seed_decides() -> None:
    assert torch.equal(mask_of(0.5, 100), mask_of(0.5, 100))
    assert not torch.equal(mask_of(0.5, 100), mask_of(0.5, 100, seed=1))


def test_rates_at_the_ends_leave_something_to_scale() -> None:
    assert keep_share(0.0) == 1.0
    assert bool((mask_of(0.0, 100) == 1).all())
    assert keep_share(1 - 1e-9) > 0


def test_scratch_gives_the_same_memory_again_and_grows() -> None:
    scratch = Scratch()
    first = scratch.take("a", (2, 3), torch.float32)
    again = scratch.take("a", (5,), torch.float32)
    assert again.shape == (5,)
    assert again.data_ptr() == first.data_ptr()
    others = [
        scratch.take("b", (5,), torch.float32),
        scratch.take("a", (5,), torch.bfloat16),
        scratch.take("a", (7,), torch.float32),
    ]
    assert len({first.data_ptr(), *(other.data_ptr() for other in others)}) == 4
