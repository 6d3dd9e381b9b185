"""Older relatives of Adam and of momentum: what their papers and docstrings claim."""

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, LeafError

from .stepping import feed, numbers

GRADS = [numbers(1.0, -2.0, 0.3), numbers(-0.5, -1.0, 0.2), numbers(2.0, 0.1, -0.4)] * 3


def same(one, other):
    """Two rules make the same updates of the same gradients."""
    ours, theirs = (feed(tx, GRADS)[0] for tx in (one, other))
    for u, v in zip(ours, theirs, strict=True):
        torch.testing.assert_close(u, v, rtol=1e-13, atol=1e-15)


# Quasi-hyperbolic


def test_qhm_is_sgd_at_one_end_an_ema_at_the_other_and_nesterov_between():
    same(fo.scale_by_qhm(0.9, 0.0), fo.identity())
    same(fo.scale_by_qhm(0.9, 1.0), fo.ema(0.9, debias=False))
    nesterov = fo.chain(fo.trace(0.9, nesterov=True), fo.scale(0.1))
    same(fo.scale_by_qhm(0.9, 0.9), nesterov)


def test_qhadam_is_adam_at_one_end_and_the_sign_at_the_other():
    same(fo.scale_by_qhadam((0.9, 0.99)), fo.scale_by_adam((0.9, 0.99)))
    same(fo.scale_by_qhadam(nus=(0.0, 0.0), eps=0.0), fo.scale_by_sign())


# The projection of AdamP and SGDP


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


P = matrix([3.0, 4.0], [0.0, 2.0])
ACROSS = matrix([-4.0, 3.0], [1.0, 0.0])  # perpendicular row by row
ALONG = matrix([3.0, 4.0], [0.0, -12.5])  # perpendicular as a whole only


def step_of(tx, gradients, p=P):
    state = tx.init(p)
    for g in gradients:
        u, state = tx.update(g, state, p)
    return u


@pytest.mark.parametrize("tx", [fo.scale_by_sgdp(), fo.scale_by_adamp()], ids=str)
def test_what_is_perpendicular_row_by_row_leaves_no_part_along_a_row(tx):
    u = step_of(tx, [P + ACROSS, ACROSS])
    assert (u * P).sum(1).abs().max() < 1e-7
    assert u.abs().max() > 0.1


@pytest.mark.parametrize("tx", [fo.scale_by_sgdp(), fo.scale_by_adamp()], ids=str)
def test_what_is_perpendicular_as_a_whole_leaves_no_part_along_the_tensor(tx):
    u = step_of(tx, [P + ALONG, ALONG])
    assert (u * P).sum().abs() < 1e-6
    assert (u * P).sum(1).abs().min() > 0.1


def test_the_norm_of_a_parameter_grows_less():
    def grown(tx):
        p, state = matrix([1.0, 0.0]), None
        for _ in range(100):
            state = tx.init(p) if state is None else state
            g = matrix([-p[0, 1], p[0, 0]]) / p.norm()  # as behind a normalization layer
            u, state = tx.update(g, state, p)
            p = p - 0.01 * u
        return p.norm() - 1

    assert grown(fo.scale_by_sgdp(0.9)) < 0.2 * grown(fo.trace(0.9))


@pytest.mark.parametrize("p", [numbers(1.0, 2.0, 3.0), numbers(2.0)[0]], ids=["vector", "scalar"])
def test_a_tensor_with_less_than_two_dimensions_is_not_projected(p):
    g = torch.zeros_like(p) if not p.ndim else numbers(2.0, -1.0, 0.0)
    u = step_of(fo.scale_by_sgdp(0.9, weight_decay=0.1), [p, g], p)
    torch.testing.assert_close(u, 0.9 * p + g + 0.1 / (1 - 0.9) * p)


def test_the_decay_of_what_is_projected_is_multiplied_by_the_ratio():
    for g, ratio in [(ACROSS, 0.3), (P, 1.0)]:
        options = {"momentum": 0.5, "wd_ratio": 0.3}
        more = step_of(fo.scale_by_sgdp(weight_decay=0.1, **options), [g])
        less = step_of(fo.scale_by_sgdp(weight_decay=0.0, **options), [g])
        torch.testing.assert_close(more - less, 0.2 * ratio * P, rtol=1e-13, atol=1e-15)


def test_epsilons_are_added_to_the_root_and_to_norms_as_in_the_code_of_the_authors():
    eps = 0.1
    u = step_of(fo.scale_by_adamp((0.9, 0.99), eps), [P + ACROSS, ACROSS])
    m = (0.9 * 0.1 * (P + ACROSS) + 0.1 * ACROSS) / (1 - 0.9**2)
    v = (0.99 * 0.01 * (P + ACROSS) ** 2 + 0.01 * ACROSS**2) / (1 - 0.99**2)
    a = m / (v.sqrt() + eps)
    h = P / (P.norm(dim=1, keepdim=True) + eps)
    torch.testing.assert_close(u, a - h * (h * a).sum(1, keepdim=True))


def test_a_parameter_of_zeros_has_finite_steps_without_an_epsilon():
    u = step_of(fo.scale_by_sgdp(eps=0.0), [ACROSS], torch.zeros_like(P))
    assert torch.equal(u, ACROSS)


def test_a_complex_parameter_is_refused():
    with pytest.raises(LeafError):
        fo.scale_by_adamp().init(torch.zeros(2, 2, dtype=torch.complex64))


# Bounds of learning rates


def test_adabound_ends_as_sgd_with_the_final_learning_rate():
    tx = fo.scale_by_adabound(1e-3, gamma=1e16, final_lr=0.2)
    same(tx, fo.chain(fo.ema(0.9, debias=False), fo.scale(0.2)))


def test_adabound_begins_as_adam():
    same(fo.scale_by_adabound(1e-3, gamma=1e-9, eps=0.0), scaled_adam(1e-3))


def scaled_adam(lr, **options):
    return fo.chain(fo.scale_by_adam(eps=0.0, **options), fo.scale(lr))


def test_amsbound_begins_as_amsgrad():
    ams = fo.scale_by_adabound(1e-3, gamma=1e-9, eps=0.0, amsgrad=True)
    same(ams, scaled_adam(1e-3, amsgrad=True))


@pytest.mark.parametrize("base", [None, 0.1])
def test_the_bounds_follow_the_schedule_of_the_learning_rate(base):
    """The first learning rate is 0: then nothing moves, and the second is the base."""

    def lr(count):
        return 0.1 * count

    tx = fo.scale_by_adabound(lr, (0.0, 0.9), final_lr=0.5, gamma=1e9, base_lr=base)
    updates, _ = feed(tx, [numbers(1.0)] * 4)
    found = [u.item() for u in updates]
    assert found == pytest.approx([0.0, 0.5, 1.0, 1.5], rel=1e-6)


def test_the_base_is_the_first_learning_rate_of_each_group():
    params = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    groups = [{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": 0.4}]
    opt = optim.AdaBound(groups, betas=(0.0, 0.9), final_lr=0.5, gamma=1e9)
    for factor in (1.0, 0.5):
        before = [p.item() for p in params]
        for group, lr in zip(opt.param_groups, (0.1, 0.4), strict=True):
            group["lr"] = factor * lr
        for p in params:
            p.grad = torch.ones_like(p)
        opt.step()
        moved = [b - p.item() for p, b in zip(params, before, strict=True)]
        assert moved == pytest.approx([0.5 * factor] * 2)


def test_adamod_is_warmed_up_by_its_bound():
    tx = fo.scale_by_adamod(0.1, (0.9, 0.999, 0.9), eps=0.0)
    updates, _ = feed(tx, [numbers(1.0)] * 3)
    sizes = [u.item() for u in updates]
    assert sizes[0] == pytest.approx(0.1 * 0.1)  # a tenth of Adam's first step
    assert sizes == sorted(sizes)


def test_adamod_without_an_average_is_adam():
    same(fo.scale_by_adamod(0.1, (0.9, 0.999, 0.0), eps=0.0), scaled_adam(0.1))


# Other numerators and denominators


def test_where_the_gradient_stays_diffgrad_halves_adam_and_where_it_jumps_it_is_adam():
    constant = [numbers(0.5)] * 3
    (_, *later), _ = feed(fo.scale_by_diffgrad(eps=0.0), constant)
    for u in later:
        torch.testing.assert_close(u, numbers(0.5))
    jumps = [numbers(100.0), numbers(-100.0)]
    ours = feed(fo.scale_by_diffgrad(eps=0.0), jumps)[0]
    theirs = feed(fo.scale_by_adam(eps=0.0), jumps)[0]
    torch.testing.assert_close(ours[1], theirs[1])


@pytest.mark.parametrize("amsgrad", [False, True])
def test_padam_is_adam_with_a_half(amsgrad):
    same(
        fo.scale_by_padam(partial=0.5, eps=0.0, amsgrad=amsgrad),
        fo.scale_by_adam(eps=0.0, amsgrad=amsgrad),
    )


def test_padam_divides_by_the_fourth_root_of_the_greatest_second_moment():
    (_, u), _ = feed(fo.scale_by_padam((0.0, 0.0), eps=0.0), [numbers(16.0), numbers(1.0)])
    assert u.item() == pytest.approx(1 / 4)


def test_ano_has_the_size_of_the_gradient_at_once_and_the_sign_of_the_momentum():
    ups, down = [numbers(1.0)] * 20, numbers(-1.0)
    us, state = feed(fo.scale_by_ano((0.9, 0.99), eps=0.0), [*ups, down])
    assert all(u > 0 for u in us)
    (u,), _ = feed(fo.scale_by_ano((0.0, 0.99), eps=0.0), [down])
    assert u == -1.0
    u, _ = fo.scale_by_ano((0.9, 0.99), eps=0.0).update(numbers(8.0), state)
    assert u > 3 * us[-1]


def test_the_second_moment_of_ano_stays_positive():
    with pytest.raises(HyperparameterError, match=r"`betas\[1\]` must be at least 0.5, got 0.4"):
        fo.scale_by_ano((0.9, 0.4))
    _, state = feed(fo.scale_by_ano((0.9, 0.5)), [numbers(1.0), numbers(0.9), numbers(0.7)])
    assert (state.slots.exp_avg_sq >= 0).all()


def test_grams_has_the_size_of_adam_and_the_sign_of_the_gradient():
    ours, theirs = (feed(tx(eps=1e-6), GRADS)[0] for tx in (fo.scale_by_grams, fo.scale_by_adam))
    turned = 0
    for g, u, v in zip(GRADS, ours, theirs, strict=True):
        torch.testing.assert_close(u, v.abs() * g.sign())
        turned += (u * v < 0).sum()
    assert turned
    (_, still), _ = feed(fo.scale_by_grams(), [numbers(1.0), numbers(0.0)])
    assert still == 0


# Aliases of stages that are there


def test_aggmo_is_the_mean_of_its_momenta():
    updates, _ = feed(fo.chain(fo.aggmo(1.0), fo.scale(-1.0)), GRADS)
    buffers = [torch.zeros(3, dtype=torch.float64) for _ in range(3)]
    for g, u in zip(GRADS, updates, strict=True):
        buffers = [b * m + g for b, m in zip((0.0, 0.9, 0.99), buffers, strict=True)]
        torch.testing.assert_close(u, sum(buffers) / 3)


def test_a_momentum_more_of_aggmo_begins_with_the_next_gradient():
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    opt = optim.AggMo([p], 1.0, betas=(0.9,))
    p.grad = torch.ones_like(p)
    opt.step()
    opt.param_groups[0]["betas"] = (0.9, 0.5)
    opt.step()
    assert p.item() == pytest.approx(-1 - (1.9 + 1) / 2)


@pytest.mark.parametrize("betas", [(), 0.9, "fast"])
def test_aggmo_needs_a_tuple(betas):
    with pytest.raises(HyperparameterError, match=r"`aggmo`: `betas` must be a tuple of decay"):
        fo.aggmo(betas=betas)


def test_tiger_is_signum():
    assert fo.tiger(0.1, 0.9, 0.2) == fo.signum(0.1, 0.9, 0.2)
