"""What steps that are prepared once must not forget to look at."""

import weakref

import pytest
import torch

import funcopt as fo

ENGINES = ["eager", "fused", "foreach", "torch", "auto"]
every_engine = pytest.mark.parametrize("engine", ENGINES)


def square(size=3):
    return torch.nn.Parameter(torch.linspace(-1.0, 1.0, size * size).reshape(size, size))


def both(engine, **options):
    p, q = square(), square()
    mine = fo.optim.AdamW([p], engine=engine, **options)
    theirs = torch.optim.AdamW([q], foreach=False, **options)
    return (p, mine), (q, theirs)


def step(p, opt, scale=1.0):
    p.grad = (1.3 * torch.arange(1.0, 1 + p.numel())).sin().reshape(p.shape) * scale
    opt.step()


def assert_equal(p, q):
    assert (p.detach() - q.detach()).abs().max() <= 1e-6


@every_engine
@pytest.mark.parametrize("kernels", ["native", "interpreted"])
def test_a_parameter_that_is_turned_at_its_place_beside_gradients_that_are_not(
    engine, kernels, monkeypatch
):
    monkeypatch.setenv("FUNCOPT_KERNELS", kernels)
    monkeypatch.setattr("funcopt.engine._identity.MIN_COUNT", 0)
    (p, mine), (q, theirs) = both(engine, lr=0.1)
    for x, opt in ((p, mine), (q, theirs)):
        for _ in range(3):
            step(x, opt)
        x.data = x.data.t()
        for _ in range(2):
            step(x, opt)
    assert_equal(p, q)


@every_engine
def test_a_slot_that_is_turned_at_its_place(engine, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")
    monkeypatch.setattr("funcopt.engine._identity.MIN_COUNT", 0)
    (p, mine), (q, theirs) = both(engine, lr=0.1)
    for x, opt in ((p, mine), (q, theirs)):
        for _ in range(3):
            step(x, opt)
        opt.state[x]["exp_avg"].t_()
        for _ in range(2):
            step(x, opt)
    assert_equal(p, q)


@every_engine
def test_no_gradient_is_kept(engine):
    p = square()
    opt = fo.optim.AdamW([p], lr=0.1, engine=engine)
    seen = []
    for _ in range(5):
        step(p, opt)
        seen.append(weakref.ref(p.grad))
        opt.zero_grad()
    assert [ref() for ref in seen] == [None] * 5


@every_engine
@pytest.mark.parametrize("many", [0, 64])
def test_clocks_whose_data_is_copied_elsewhere_count_on(engine, many, monkeypatch):
    monkeypatch.setattr("funcopt.engine._identity.MIN_COUNT", many)
    (p, mine), (q, theirs) = both(engine, lr=0.1)
    for x, opt in ((p, mine), (q, theirs)):
        for _ in range(3):
            step(x, opt)
        for value in opt.state[x].values():
            value.data = value.data.clone()
        for _ in range(3):
            step(x, opt)
    assert mine.state_dict()["state"][0]["step"] == 6
    assert_equal(p, q)


@every_engine
def test_values_in_groups_that_are_changed_within(engine):
    (p, mine), (q, theirs) = both(engine, lr=0.1)
    for x, opt in ((p, mine), (q, theirs)):
        step(x, opt)
        opt.param_groups[0]["betas"] = [0.9, 0.999]
        step(x, opt)
        for b1 in (0.2, 0.5):
            opt.param_groups[0]["betas"][0] = b1
            step(x, opt, -1.0)
    assert_equal(p, q)


@every_engine
def test_a_rate_whose_data_is_replaced(engine):
    (p, mine), (q, theirs) = both(engine, lr=0.1)
    for x, opt in ((p, mine), (q, theirs)):
        opt.param_groups[0]["lr"] = torch.tensor(0.1)
        step(x, opt)
        step(x, opt)
        opt.param_groups[0]["lr"].data = torch.tensor(0.7)
        step(x, opt)
    assert_equal(p, q)


class by_factor(fo.TensorRule):
    elementwise = True

    def conclude(self, s, memory, total, *, factor=1.0):
        return {"by": factor}, memory

    def update_tensor(self, g, slots, p, s):
        return s.by * g, slots


@every_engine
def test_an_extra_argument_is_that_of_its_own_step(engine):
    p = torch.nn.Parameter(torch.zeros(3))
    opt = fo.Optimizer([p], fo.chain(by_factor(), fo.scale(-1.0)), engine=engine)
    moved = []
    for extra in ({}, {}, {"factor": 3.0}, {}, {"factor": 5.0}, {}):
        before = p.detach().clone()
        p.grad = torch.ones(3)
        opt.step(**extra)
        moved.append(float((before - p.detach())[0]))
    assert moved == [1.0, 1.0, 3.0, 1.0, 5.0, 1.0]


class over(fo.TensorRule):
    by: fo.Scalar
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g / s.by, slots


@every_engine
@pytest.mark.parametrize("by", [1e-39, 2e38, 3.0])
def test_divisions_by_numbers_without_a_normal_inverse(engine, by):
    p = torch.nn.Parameter(torch.zeros(2))
    opt = fo.Optimizer([p], fo.chain(over(by), fo.scale(-1.0)), engine=engine)
    for _ in range(2):
        p.grad = torch.tensor([0.0, by])
        opt.step()
    assert (p.detach() - torch.tensor([0.0, -2.0])).abs().max() <= 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_the_default_device_is_another(engine, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1))
    found = []
    for device in ("cpu", "meta"):
        p = square()
        opt = fo.Optimizer([p], tx, engine=engine)
        for _ in range(3):
            p.grad = torch.ones(3, 3)
            with torch.device(device):
                opt.step()
        found.append(p)
    assert_equal(*found)


def test_a_hook_that_the_closure_registers_runs_after_the_step():
    p, seen = square(), []
    opt = fo.optim.AdamW([p])

    def closure():
        opt.register_step_post_hook(lambda *given: seen.append(given))
        p.grad = torch.ones(3, 3)
        return 1.0

    opt.step(closure)
    assert seen == [(opt, (opt, closure), {})]


@every_engine
def test_no_gradient_is_kept_by_a_step_that_fails(engine):
    p = square()
    opt = fo.optim.AdamW([p], lr=0.1, engine=engine)
    step(p, opt)
    step(p, opt)
    p.grad = torch.ones_like(p)
    seen = weakref.ref(p.grad)
    with pytest.raises(fo.errors.ExtraArgumentError):
        opt.step(nonsense=1)
    p.grad = None
    assert seen() is None


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_a_group_may_hold_its_parameters_in_a_tuple(engine, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")
    monkeypatch.setattr("funcopt.engine._identity.MIN_COUNT", 0)
    (p, mine), (q, theirs) = both(engine, lr=0.1)
    for x, opt in ((p, mine), (q, theirs)):
        for t in range(5):
            if t == 3:
                opt.param_groups[0]["params"] = (x,)
            step(x, opt)
    assert_equal(p, q)


def test_a_kernel_of_torch_begins_only_if_all_of_its_numbers_are_there():
    p, q = square(), square()
    opt = fo.optim.SGD([{"params": [p]}, {"params": [q]}], lr=0.1, engine="torch")
    for x in (p, q):
        x.grad = torch.ones_like(x)
    opt.step()
    opt.param_groups[1]["lr"] = torch.tensor(0.1, device="meta")
    before = p.detach().clone()
    with pytest.raises(RuntimeError):
        opt.step()
    assert torch.equal(p, before)


class applied(fo.TensorRule):
    """Does what a function says, whatever it is."""

    function: object = None
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return self.function(g), slots


class Times:
    def __init__(self, factor):
        self.factor = factor

    def of(self, g):
        return g * self.factor


FUNCTIONS = {
    "closure": lambda k: lambda g: g * k,
    "default": lambda k: lambda g, k=k: g * k,
    "keyword": lambda k: lambda g, *, k=k: g * k,
    "method": lambda k: Times(k).of,
}


@every_engine
@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_that_is_made_anew_with_another_number(make, engine):
    def chain(lr=0.1, factor=2.0):
        return fo.chain(applied(make(factor)), fo.scale(-lr))

    p = torch.nn.Parameter(torch.zeros(3))
    opt = fo.optim.optimizer_class("Applied", chain)([p], engine=engine)
    for factor in (2.0, 2.0, 5.0, 1.0):
        opt.param_groups[0]["factor"] = factor
        p.grad = torch.ones(3)
        opt.step()
    torch.testing.assert_close(p.detach(), torch.full((3,), -1.0))


class flagged(fo.TensorRule):
    """What a flag times a number is, is said by the default dtype."""

    widened: object = None
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        tenth = (g > 0) * 0.1
        return (self.widened(tenth, g) - 0.1) * 1e9, slots


WIDENED = {"cast": lambda x, g: x.to(torch.float64), "added": lambda x, g: x + (g - g)}


@every_engine
@pytest.mark.parametrize("widened", WIDENED.values(), ids=WIDENED)
@pytest.mark.parametrize("kernels", ["native", "interpreted"])
def test_another_default_dtype(engine, kernels, widened, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", kernels)
    default = torch.get_default_dtype()
    found = []
    try:
        for dtype in (torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
            opt = fo.Optimizer([p], fo.chain(flagged(widened), fo.scale(-1.0)), engine=engine)
            for _ in range(2):
                p.grad = torch.ones(3, dtype=torch.float64)
                opt.step()
            found.append(-p.detach()[0].item() / 2)
    finally:
        torch.set_default_dtype(default)
    assert found == pytest.approx([0.0, (torch.tensor(0.1).item() - 0.1) * 1e9])
