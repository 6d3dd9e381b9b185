"""Transformations that share a formula with Optax give its numbers."""

import jax
import numpy as np
import optax
import pytest
import torch

import funcopt as fo

from .parity import ROWS, difference

TOLERANCE = 1e-13  # 2e-15 is what is seen


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_steps_are_those_of_optax(row):
    assert difference(row) <= TOLERANCE


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_updates_are_applied_with_the_rounding_of_optax(dtype):
    rng = np.random.default_rng(0)
    p, u = rng.normal(size=1000).astype(np.float32), rng.normal(size=1000).astype(np.float32)
    params, updates = torch.as_tensor(p).bfloat16(), torch.as_tensor(u).to(getattr(torch, dtype))
    got = fo.apply_updates(params, updates)
    expected = optax.apply_updates(jax.numpy.asarray(p, "bfloat16"), jax.numpy.asarray(u, dtype))
    assert got.dtype == torch.bfloat16
    assert np.array_equal(got.float().numpy(), np.asarray(expected, np.float32))
