"""`scale_by_factored_rms` and the stages around it, which make Adafactor."""

import numpy as np
import optax
import pytest
import torch

import funcopt as fo
import funcopt.errors
import funcopt.optim as optim
from tests import parity

from .stepping import feed, numbers


@pytest.mark.parametrize("lr", [0.01, 0.2, 0.5, 3.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_where_the_rate_falls_it_is_torchs_too(lr, weight_decay):
    """From step 1 / lr^2 on; gradients that pull together keep rounding from growing."""
    runs = []
    for cls in (optim.Adafactor, torch.optim.Adafactor):
        params = [torch.nn.Parameter(torch.as_tensor(p)) for p in parity.beginning()]
        opt = cls(params, lr=lr, weight_decay=weight_decay)
        for t in range(200):
            grads = parity.gradients([p.detach().numpy() for p in params], t)
            for p, g in zip(params, grads, strict=True):
                p.grad = torch.as_tensor(g)
            opt.step()
        runs.append([p.detach() for p in params])
    for ours, theirs in zip(*runs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_rate_is_shown():
    p = torch.nn.Parameter(torch.ones(2, 2))
    opt, seen = optim.Adafactor([p], lr=0.6), []
    for _ in range(4):
        p.grad = torch.ones(2, 2)
        opt.step()
        seen.append(float(opt.metrics()["rho"]))
    assert seen == pytest.approx([0.6, 0.6, 3**-0.5, 0.5])


def test_a_matrix_is_remembered_by_its_margins():
    state = fo.scale_by_factored_rms().init({"w": torch.ones(5, 3), "b": torch.ones(3)})
    w, b = state.slots["w"], state.slots["b"]
    assert (w.row_var.shape, w.col_var.shape, w.variance) == ((5, 1), (1, 3), ())
    assert (b.row_var, b.col_var, b.variance.shape) == ((), (), (3,))


def test_a_tensor_is_a_batch_of_matrices():
    tx, g = fo.scale_by_factored_rms(), torch.randn(4, 3, 2, generator=torch.Generator())
    batch, _ = feed(tx, [g, 2 * g])
    for i in range(4):
        alone, _ = feed(tx, [g[i], 2 * g[i]])
        torch.testing.assert_close(batch[-1][i], alone[-1], rtol=1e-6, atol=1e-6)


def test_a_gradient_of_rank_one_comes_out_as_its_sign():
    g = torch.outer(numbers(1.0, -20.0, 3.0), numbers(0.5, 4.0))
    (u,), _ = feed(fo.scale_by_factored_rms(eps=1e-9), [g])
    torch.testing.assert_close(u, g.sign(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_eps_is_the_least_root_mean_square(shape):
    """In units of the gradient: a tenth of it makes an update of a tenth."""
    (u,), _ = feed(fo.scale_by_factored_rms(eps=1e-3), [torch.full(shape, 1e-4).double()])
    torch.testing.assert_close(u, torch.full(shape, 0.1).double(), rtol=1e-6, atol=0)


def test_the_mean_of_the_rows_is_bounded_by_eps_itself():
    """There v is 1e-4 / max(1e-4, eps) 1e-4 = 1e-5, which is above eps^2."""
    (u,), _ = feed(fo.scale_by_factored_rms(eps=1e-3), [torch.full((3, 2), 1e-2).double()])
    torch.testing.assert_close(u, torch.full((3, 2), 1e-2 / 1e-5**0.5).double(), rtol=1e-6, atol=0)


def test_the_two_longest_dimensions_are_factored_where_both_are_long_enough():
    tx = fo.scale_by_factored_rms(min_dim_size_to_factor=4)
    slots = tx.init([torch.ones(6, 2, 4), torch.ones(6, 2, 3), torch.ones(4, 4)]).slots
    assert (slots[0].row_var.shape, slots[0].col_var.shape) == ((1, 2, 4), (6, 2, 1))
    assert slots[1].variance.shape == (6, 2, 3)
    assert (slots[2].row_var.shape, slots[2].col_var.shape) == ((4, 1), (1, 4))


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_the_chain_of_optax_is_made_of_the_same_stages(momentum):
    """To the rounding of Optax's decay, which it computes in float32; `parity.py` is exact."""
    theirs = optax.adafactor(
        0.05, min_dim_size_to_factor=2, momentum=momentum, weight_decay_rate=0.01
    )
    ours = fo.chain(
        fo.scale_by_factored_rms(eps=1e-30, add_eps=True, min_dim_size_to_factor=2),
        fo.clip_by_block_rms(1.0),
        fo.scale_by_learning_rate(0.05, flip_sign=False),
        fo.scale_by_param_block_rms(),
        fo.identity() if momentum is None else fo.ema(momentum, debias=False),
        fo.add_decayed_weights(0.01),
        fo.scale(-1.0),
    )
    with parity.jax.enable_x64(True):
        pairs = list(zip(parity.our_run(ours), parity.their_run(theirs), strict=True))
    assert max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_zero_gradient_gives_a_zero_update(dtype):
    params = [torch.ones(3, 2, dtype=dtype), torch.ones(3, dtype=dtype)]
    zeros = [torch.zeros_like(p) for p in params]
    updates, _ = feed(fo.adafactor(), [zeros, zeros], params)
    assert all(torch.equal(u, torch.zeros_like(u)) for u in updates[-1])


def test_complex_parameters_are_refused():
    with pytest.raises(funcopt.errors.LeafError, match=r"`scale_by_factored_rms`.*complex"):
        fo.adafactor().init(torch.ones(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fo.adafactor(beta2_decay=0.8), r"`beta2_decay` must not be positive, got 0.8"),
        (lambda: fo.adafactor(eps=(-1.0, 1e-3)), r"`eps\[0\]` must not be negative, got -1.0"),
        (lambda: fo.adafactor(d=0.0), r"in `clip_by_block_rms`: `d` must be positive"),
        (lambda: fo.adafactor(lr=-1.0), r"`scale_by_relative_step`: `lr` must not be negative"),
        (
            lambda: fo.scale_by_factored_rms(min_dim_size_to_factor=1.5),
            "`min_dim_size_to_factor` must be a whole number",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(make, sentence):
    with pytest.raises(funcopt.errors.HyperparameterError, match=sentence):
        make()
