"""`scale_by_kron`: a preconditioner that is fitted. Its steps are in `test_parity_matrices`."""

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError
from funcopt.transforms import _kron

from .stepping import feed

pytestmark = pytest.mark.usefixtures("in_float64")


def test_it_whitens_the_gradient():
    """The claim of the paper: entries of variance 1 without a correlation, of any L N R."""
    torch.manual_seed(0)
    left, right = torch.randn(3, 3), torch.diag(torch.tensor([4.0, 1.0, 0.5, 0.25]))
    tx = fo.scale_by_kron(momentum=0.0, precond_lr=0.03)
    us, _ = feed(tx, [left @ torch.randn(3, 4) @ right for _ in range(1500)])
    late = torch.stack([u.flatten() for u in us[500:]])
    torch.testing.assert_close(late.T @ late / len(late), torch.eye(12), rtol=0, atol=0.3)


@pytest.mark.parametrize(
    ("shape", "options", "dims"),
    [
        ((), {}, (1,)),
        ((5,), {}, (1,)),
        ((5,), {"min_ndim_triangular": 1}, (2,)),
        ((5, 1, 3), {}, (2, 1, 2)),
        ((5, 3), {"max_size_triangular": 4}, (1, 2)),
        ((5, 3), {"memory_save_mode": "one_diag"}, (1, 2)),
        ((4, 4), {"memory_save_mode": "one_diag"}, (2, 1)),
        ((4, 4), {"memory_save_mode": "smart_one_diag"}, (2, 2)),
        ((2, 4, 3), {"memory_save_mode": "smart_one_diag"}, (2, 1, 2)),
        ((5, 3), {"memory_save_mode": "all_diag"}, (1, 1)),
        ((5, 3, 2), {"min_ndim_triangular": 4}, (1, 1, 1)),
        ((0, 3), {}, (1, 2)),
    ],
    ids=str,
)
def test_which_dimensions_have_a_matrix(shape, options, dims):
    tx = fo.scale_by_kron(**options)
    Q = tx.init(torch.ones(shape)).slots.Q
    assert tuple(q.dim() for q in Q) == dims
    _, state = feed(tx, [torch.ones(shape)] * 3)
    for q, first in zip(state.slots.Q, Q, strict=True):
        assert q.shape == first.shape
        assert torch.equal(q, q.triu() if q.dim() == 2 else q)
        assert torch.equal(q, first) == (0 in shape)


@pytest.mark.parametrize("every", [1, 3, 7, 49])
def test_it_is_fitted_as_often_as_is_asked_for(every):
    tx = fo.scale_by_kron(update_probability=1 / every)
    state, fitted = tx.init(torch.ones(2)), []
    for t in range(1, 100):
        before = state.slots.Q
        _, state = tx.update(torch.ones(2), state)
        if not torch.equal(before[0], state.slots.Q[0]):
            fitted.append(t)
    assert fitted == list(range(every, 100, every))
    assert state.memory.fits == len(fitted)


def test_by_default_it_is_fitted_less_often_later():
    schedule = _kron.annealed_probability
    assert [schedule(t) for t in (0, 500, 10_000)] == pytest.approx([1.0, 1.0, 0.03])
    assert schedule(1500) == pytest.approx(torch.e**-1)
    tx = fo.scale_by_kron()
    state = tx.init(torch.ones(()))._replace(step=torch.tensor(9_999))
    for t in range(1, 35):
        _, state = tx.update(torch.ones(()), state)
        assert state.memory.fits == (t == 34)


def test_a_balance_keeps_the_product_and_makes_the_largest_entries_equal():
    torch.manual_seed(0)
    Q = (torch.randn(3, 3).triu(), 1000.0 * torch.rand(4), torch.randn(2, 2).triu())
    new = _kron._balanced(Q)
    torch.testing.assert_close(len({round(q.abs().max().item(), 9) for q in new}), 1)
    x = torch.randn(3, 4, 2)
    ours, theirs = (_kron._along(x, q, _kron._times) for q in (new, Q))
    torch.testing.assert_close(ours, theirs)


def test_probes_are_those_of_the_seed_and_the_name():
    grads = [{"a": torch.ones(3), "b": torch.ones(3)}] * 2
    (_, first), (_, again) = (feed(fo.scale_by_kron(seed=1), grads) for _ in range(2))
    _, other = feed(fo.scale_by_kron(seed=2), grads)
    (a,), (b,) = (first.slots[name].Q for name in "ab")
    assert not torch.equal(a, b)
    assert torch.equal(a, again.slots["a"].Q[0])
    assert not torch.equal(a, other.slots["a"].Q[0])


def test_an_update_of_the_alias_has_a_bounded_root_mean_square():
    us, _ = feed(fo.kron(1.0, momentum=0.0), [100.0 * torch.ones(4, 3)], torch.zeros(4, 3))
    torch.testing.assert_close(us[0].square().mean().sqrt(), torch.tensor(1.1))


def test_state_is_flat_and_a_checkpoint_resumes_to_the_bit():
    def stepped(opt, p, steps, begin=0):
        for t in range(begin, begin + steps):
            p.grad = p.detach() + torch.sin(torch.arange(12.0) + t).reshape(4, 3)
            opt.step()
        return p.detach()

    p = torch.nn.Parameter(torch.ones(4, 3))
    opt = optim.Kron([p], lr=0.01, update_probability=0.5)
    stepped(opt, p, 5)
    shapes = {key: tuple(x.shape) for key, x in opt.state[p].items()}
    scalars = dict.fromkeys(["since_fit", "fits", "step"], ())
    assert shapes == {"exp_avg": (4, 3), "Q/0": (4, 4), "Q/1": (3, 3), **scalars}
    q = torch.nn.Parameter(p.detach().clone())
    other = optim.Kron([q])
    other.load_state_dict(opt.state_dict())
    assert torch.equal(stepped(opt, p, 6, begin=5), stepped(other, q, 6, begin=5))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"momentum": 1.0}, "`momentum` must lie in [0, 1), got 1.0."),
        ({"update_probability": 1.5}, "`update_probability` must lie in [0, 1], got 1.5."),
        ({"precond_lr": 0.0}, "`precond_lr` must be positive, got 0.0."),
        ({"balance_every": 0}, "`balance_every` must be a whole number, at least 1, got 0."),
        (
            {"memory_save_mode": "half"},
            "`memory_save_mode` must be one of None, 'one_diag', 'smart_one_diag', "
            "'all_diag', got 'half'.",
        ),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(HyperparameterError) as error:
        fo.scale_by_kron(**fields)
    assert str(error.value) == f"`scale_by_kron`: {message}"
