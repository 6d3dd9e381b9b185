"""Whatever tensors there are, every engine makes the same steps."""

import copy
from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt.engine import _kernels

from .common import gap

TX = fo.chain(
    fo.clip_by_global_norm(0.5),
    fo.scale_by_adam(amsgrad=True),
    fo.add_decayed_weights(0.1),
    fo.scale_by_learning_rate(fo.linear_schedule(0.1, 0.0, 20)),
    fo.ema_of_params(0.9),
)


def filled(shape, dtype=torch.float32):
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1.2, max(count, 1))[:count].reshape(shape).to(dtype)


def image(dtype=torch.float32):
    return filled((2, 3, 4, 5), dtype).to(memory_format=torch.channels_last)


KINDS = {
    "plain": lambda: [filled((3, 4)), filled((5,))],
    "0-d, one entry, none": lambda: [filled(()), filled((1,)), filled((0, 3)), filled((2,))],
    "channels last": lambda: [image(), filled((3,))],
    "transposed": lambda: [filled((3, 4)).t(), filled((2, 3, 4)).transpose(0, 2)],
    "with holes": lambda: [filled((4, 6))[:, ::2], filled((8,))[1::3]],
    "in the middle of memory": lambda: [filled((9,))[2:7], filled((4, 4))[1:3]],
    "bfloat16": lambda: [filled((3, 4), torch.bfloat16), filled((2,), torch.bfloat16)],
    "float16": lambda: [filled((3, 4), torch.float16)],
    "several dtypes": lambda: [
        filled((3,), torch.float64),
        filled((3,)),
        filled((3,), torch.bfloat16),
    ],
    "complex": lambda: [torch.complex(filled((3, 2)), filled((3, 2)) ** 2), filled((2,))],
    "complex and transposed": lambda: [torch.complex(filled((3, 2)), filled((3, 2)) ** 2).t()],
}

every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def trained(make, engine, steps=4, tx=TX, grads=None, **more):
    params = [torch.nn.Parameter(x) for x in make()]
    opt = fo.Optimizer(params, tx, engine=engine, **more)
    for t in range(steps):
        for i, p in enumerate(params):
            g = p.detach() * 0.3 + (t + i) / 7
            p.grad = g if grads is None else grads(g)
        opt.step()
    return params, opt


def state_of(params, opt):
    return [value for p in params for value in opt.state[p].values()]


def close(one, other):
    limits = {torch.bfloat16: 2**-6, torch.float16: 2**-9}
    limit = max(limits.get(x.dtype, 2e-6) for x in one)
    assert gap(one, other) <= limit


@every_kind
def test_engines_agree(make):
    eager, theirs = trained(make, "eager")
    fused, ours = trained(make, "fused")
    assert (theirs.engine, ours.engine) == ("eager", "fused")
    close([p.detach() for p in eager], [p.detach() for p in fused])
    close(state_of(eager, theirs), state_of(fused, ours))
    assert [p.stride() for p in eager] == [p.stride() for p in fused]


@every_kind
def test_gradients_may_lie_in_memory_otherwise(make):
    def otherwise(g):
        wide = torch.empty(*g.shape, 2, dtype=g.dtype) if g.dim() else g
        return wide[..., 0].copy_(g) if g.dim() else g

    eager, _ = trained(make, "eager", grads=otherwise)
    fused, opt = trained(make, "fused", grads=otherwise)
    assert opt.engine == "fused"
    close([p.detach() for p in eager], [p.detach() for p in fused])


def test_machine_code_sees_the_copies_of_tensors_with_holes(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")
    tx, make = fo.chain(fo.trace(0.9), fo.scale(-0.1)), KINDS["with holes"]
    eager, theirs = trained(make, "eager", tx=tx)
    fused, ours = trained(make, "fused", tx=tx)
    assert ours.engine == "fused"
    close([p.detach() for p in eager], [p.detach() for p in fused])
    close(state_of(eager, theirs), state_of(fused, ours))


@every_kind
@pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16])
def test_slots_may_be_wider_or_narrower(make, state_dtype):
    tx = fo.chain(fo.scale_by_adam(state_dtype=state_dtype), fo.scale_by_learning_rate(0.1))
    if make()[0].is_complex():
        return
    eager, theirs = trained(make, "eager", tx=tx)
    fused, ours = trained(make, "fused", tx=tx)
    assert ours.engine == "fused"
    close(state_of(eager, theirs), state_of(fused, ours))
    assert {x.dtype for x in state_of(fused, ours) if x.dim()} <= {state_dtype}


@every_kind
def test_maximize_turns_the_gradient(make):
    eager, _ = trained(make, "eager", maximize=True)
    fused, opt = trained(make, "fused", maximize=True)
    assert opt.engine == "fused"
    close([p.detach() for p in eager], [p.detach() for p in fused])


def test_parameters_that_share_memory_are_worked_on_one_after_another():
    def make():
        memory = filled((10,))
        return [memory[:6], memory[4:]]

    eager, _ = trained(make, "eager")
    fused, opt = trained(make, "fused")
    assert opt.engine == "eager"
    assert gap([p.detach() for p in eager], [p.detach() for p in fused]) == 0.0


def test_a_rule_that_sees_whole_tensors_runs_beside_the_kernels():
    class centred(fo.TensorRule):
        def update_tensor(self, g, slots, p, s):
            return g - g.mean(), slots

    def shape(name, p):
        return "matrix" if p.dim() > 1 else "rest"

    tx = fo.chain(
        fo.clip_by_global_norm(0.5),
        fo.partition({"matrix": fo.chain(centred(), fo.sgd(0.1, 0.9)), "rest": fo.adamw()}, shape),
    )

    def make():
        return [filled((3, 4)), filled((5,)), filled((2, 2)), filled(())]

    eager, theirs = trained(make, "eager", tx=tx)
    fused, ours = trained(make, "fused", tx=tx)
    assert ours.engine == "fused"
    close([p.detach() for p in eager], [p.detach() for p in fused])
    norms = [opt.metrics()["grad_norm"] for opt in (theirs, ours)]
    assert torch.allclose(*norms)


def one_step(p, opt):
    p.grad = torch.arange(p.numel(), device=p.device).reshape(p.shape).sin().to(p.dtype)
    opt.step()


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach"])
def test_memory_that_is_exchanged_between_steps_is_noticed(engine):
    """By `p.data = ...`, which changes no identity: other memory, other strides, another dtype."""
    p, q = (torch.nn.Parameter(filled((3, 4))) for _ in range(2))
    opt = fo.Optimizer([p], fo.sgd(0.1), engine=engine)
    plain = torch.optim.SGD([q], lr=0.1)
    for x, o in ((p, opt), (q, plain)):
        for change in (torch.clone, torch.t, torch.Tensor.double, torch.clone):
            for _ in range(3):
                one_step(x, o)
            x.data = change(x.data)
        one_step(x, o)
    assert gap([p.detach()], [q.detach()]) <= 1e-6


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach"])
def test_clocks_that_others_set_are_noticed(engine):
    p, q = (torch.nn.Parameter(filled((3,))) for _ in range(2))
    opt = fo.optim.Adam([p], lr=0.1, engine=engine)
    plain = torch.optim.Adam([q], lr=0.1)
    for x, o in ((p, opt), (q, plain)):
        one_step(x, o)
        one_step(x, o)
        o.state[x]["step"].zero_()
        one_step(x, o)
        o.state[x]["exp_avg"] = torch.zeros(3)
        one_step(x, o)
    assert gap([p.detach()], [q.detach()]) <= 1e-6


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach"])
def test_late_joiners_have_clocks_of_their_own(engine):
    ps, qs = ([torch.nn.Parameter(filled((3,))) for _ in range(3)] for _ in range(2))
    opt = fo.optim.NAdam(ps, lr=0.1, engine=engine)
    plain = torch.optim.NAdam(qs, lr=0.1)
    for t in range(6):
        for i, (p, q) in enumerate(zip(ps, qs, strict=True)):
            late = i == 2 and t < 2
            gone = i == 1 and t == 4
            p.grad = q.grad = None if late or gone else torch.full((3,), 0.1 + t)
        opt.step()
        plain.step()
    assert opt.engine == engine
    assert gap([p.detach() for p in ps], [q.detach() for q in qs]) <= 1e-6
    assert [float(opt.state[p]["step"]) for p in ps] == [6, 5, 4]


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach"])
def test_autograd_notices_that_values_have_changed(engine):
    p = torch.nn.Parameter(filled((3,)))
    opt = fo.optim.AdamW([p], engine=engine)
    loss = (p * p).sum()
    one_step(p, opt)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_group_of_equal_clocks_is_one_vector_and_saves_as_single_numbers():
    params = [torch.nn.Parameter(filled((3,))) for _ in range(4)]
    opt = fo.optim.AdamW(params)
    for _ in range(2):
        for p in params:
            p.grad = torch.ones(3)
        opt.step()
    clocks = [opt.state[p]["step"] for p in params]
    assert _are_side_by_side(clocks)
    saved = opt.state_dict()["state"]
    assert all(s["step"].untyped_storage().nbytes() == 4 for s in saved.values())
    other = copy.deepcopy(opt)
    for p in params:
        p.grad = torch.ones(3)
    opt.step()
    assert all(s["step"] == 3 for s in saved.values())  # what was not copied is of now, as moments
    assert all(s["step"] == 2 for s in other.state.values())


MOVED = {
    "elsewhere": lambda p: p.clone(),
    "wider": lambda p: p.double(),
    "turned": lambda p: p.t(),
    "shorter": lambda p: p[:2],
}


@pytest.mark.parametrize("shape", [(3, 3), (9,)])
@pytest.mark.parametrize("change", MOVED.values(), ids=MOVED)
def test_machine_code_notices_that_data_is_replaced(change, shape, monkeypatch):
    """The parameter's, and with it that of its gradient and of its slots, which have its form."""
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")
    monkeypatch.setattr("funcopt.engine._identity.MIN_COUNT", 0)
    p, q = (torch.nn.Parameter(filled(shape)) for _ in range(2))
    opt, plain = fo.optim.AdamW([p], lr=0.1, engine="fused"), torch.optim.AdamW([q], lr=0.1)
    for x, o in ((p, opt), (q, plain)):
        one_step(x, o)
        one_step(x, o)
        x.grad = None
        for y in (x, o.state[x]["exp_avg"], o.state[x]["exp_avg_sq"]):
            y.data = change(y.data)
        for _ in range(2):
            x.grad = torch.empty_like(x).copy_(filled(x.shape))
            o.step()
    assert opt.engine == "fused"
    assert gap([p.detach()], [q.detach()]) <= 1e-6


def test_machine_code_notices_that_a_slot_is_another_elsewhere(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")
    monkeypatch.setattr("funcopt.engine._identity.MIN_COUNT", 0)
    p, q = (torch.nn.Parameter(filled((3, 3))) for _ in range(2))
    opt, plain = fo.optim.AdamW([p], lr=0.1, engine="fused"), torch.optim.AdamW([q], lr=0.1)
    for x, o in ((p, opt), (q, plain)):
        one_step(x, o)
        one_step(x, o)
        o.state[x]["exp_avg_sq"].data = torch.full((3, 3), 0.5, dtype=torch.float64)
        one_step(x, o)
        one_step(x, o)
    assert gap([p.detach()], [q.detach()]) <= 1e-6


def _stepped(params, opt):
    for p in params:
        p.grad = torch.ones_like(p)
    opt.step()


def _are_side_by_side(clocks):
    first = clocks[0].data_ptr()
    return [x.data_ptr() for x in clocks] == [first + 4 * i for i in range(len(clocks))]


def test_clocks_are_one_vector_after_loading_too():
    params, others = ([torch.nn.Parameter(filled((3,))) for _ in range(4)] for _ in range(2))
    opt, other = fo.optim.AdamW(params), fo.optim.AdamW(others)
    _stepped(params, opt)
    saved = opt.state_dict()
    for one in saved["state"].values():
        one["step"] = one["step"].clone()
    other.load_state_dict(saved)
    assert _are_side_by_side([other.state[p]["step"] for p in others])
    _stepped(others, other)
    _stepped(others, other)
    assert [float(other.state[p]["step"]) for p in others] == [3.0] * 4


def test_clocks_that_are_moved_are_found_again():
    params = [torch.nn.Parameter(filled((3,))) for _ in range(4)]
    opt = fo.optim.AdamW(params)
    _stepped(params, opt)
    _stepped(params, opt)
    before = [opt.state[p]["step"].data_ptr() for p in params]
    opt.state[params[0]]["step"].share_memory_()
    assert [opt.state[p]["step"].data_ptr() for p in params] != before
    _stepped(params, opt)
    assert [float(opt.state[p]["step"]) for p in params] == [3.0] * 4


def test_clocks_that_differ_count_on_each():
    params = [torch.nn.Parameter(filled((3,))) for _ in range(4)]
    opt = fo.optim.AdamW(params)
    _stepped(params, opt)
    opt.state[params[2]]["step"].fill_(7.0)
    _stepped(params, opt)
    _stepped(params, opt)
    assert [float(opt.state[p]["step"]) for p in params] == [3.0, 3.0, 9.0, 3.0]


def test_the_engine_is_part_of_no_checkpoint_and_of_every_copy():
    opt = fo.optim.AdamW([torch.nn.Parameter(filled((3,)))], engine="fused")
    assert "engine" not in opt.param_groups[0]
    assert "engine" not in opt.state_dict()["param_groups"][0]
    other = copy.deepcopy(opt)
    one_step(other.param_groups[0]["params"][0], other)
    one_step(other.param_groups[0]["params"][0], other)
    assert other.engine == "fused"


def test_an_unknown_engine_is_refused():
    with pytest.raises(
        ValueError, match="must be one of 'auto', 'eager', 'torch', 'foreach', 'fused', 'compiled'"
    ):
        fo.optim.SGD([torch.nn.Parameter(filled((3,)))], engine="warp")


def test_jobs_of_every_size_are_fused():
    for params in ([(3,)], [(300, 300)], [(2,)] * 100):
        _, opt = trained(lambda params=params: list(map(filled, params)), "auto")
        assert opt.engine == "fused"


def test_only_large_jobs_wait_for_a_compiler(monkeypatch):
    """Where the machine has no instruction for what a rule does."""

    class unusual(fo.TensorRule):
        elementwise = True

        def update_tensor(self, g, slots, p, s):
            return torch.special.erfcx(g), slots

    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")
    asked = []
    monkeypatch.setattr(
        "funcopt.engine._tracer.kernel_for", lambda lowered, device, option: asked.append(option)
    )
    for size in (3, 2**16):
        p = torch.nn.Parameter(torch.ones(size))
        p.grad = torch.ones(size)
        with pytest.raises(AttributeError):  # there is no kernel
            fo.Optimizer([p], fo.chain(unusual(), fo.scale(-1.0))).step()
    assert asked == ["auto", "fused"]
    assert {"native", "compiled"}.isdisjoint(_kernels.ON_CPU["auto"])


def test_a_rule_that_cannot_be_traced_runs_eagerly():
    class curious(fo.TensorRule):
        elementwise = True

        def update_tensor(self, g, slots, p, s):
            first = float(g.reshape(-1)[0]) if g.numel() else 0.0
            return g * (1.0 + 0.0 * first), slots

    tx = fo.chain(curious(), fo.sgd(0.1))
    eager, _ = trained(KINDS["plain"], "eager", tx=tx)
    fused, opt = trained(KINDS["plain"], "fused", tx=tx)
    assert opt.engine == "eager"
    assert gap([p.detach() for p in eager], [p.detach() for p in fused]) == 0.0


def test_a_mistake_found_while_tracing_is_an_error_and_changes_nothing():
    class picky(fo.TensorRule):
        elementwise = True

        def update_tensor(self, g, slots, p, s):
            raise fo.errors.StructureError("no")

    p = torch.nn.Parameter(filled((3,)))
    opt = fo.Optimizer([p], fo.chain(picky(), fo.sgd(0.1)), engine="fused")
    with pytest.raises(fo.errors.StructureError, match="no"):
        one_step(p, opt)
    assert torch.equal(p, filled((3,)))
    assert not opt.state


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach"])
def test_complex_memory_that_is_exchanged_is_noticed_too(engine):
    value = torch.complex(filled((3,)), filled((3,)))
    p, q = (torch.nn.Parameter(value.clone()) for _ in range(2))
    opt = fo.optim.Adam([p], lr=0.1, engine=engine)
    plain = torch.optim.Adam([q], lr=0.1)
    for x, o in ((p, opt), (q, plain)):
        for _ in range(3):
            one_step(x, o)
        x.data = x.data.clone()
        one_step(x, o)
    assert gap([p.detach()], [q.detach()]) <= 1e-6


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach"])
def test_a_clock_that_others_set_leaves_its_bucket(engine):
    ps, qs = ([torch.nn.Parameter(filled((3,))) for _ in range(2)] for _ in range(2))
    opt = fo.optim.Adam(ps, lr=0.1, engine=engine)
    plain = torch.optim.Adam(qs, lr=0.1)
    for params, o in ((ps, opt), (qs, plain)):
        for t in range(6):
            for p in params:
                p.grad = torch.full((3,), 0.1 + t)
            o.step()
            if t == 2:
                o.state[params[1]]["step"].zero_()
    assert gap([p.detach() for p in ps], [q.detach() for q in qs]) <= 1e-6


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach"])
def test_a_number_that_stops_being_zero_counts(engine):
    p, q = (torch.nn.Parameter(filled((3,))) for _ in range(2))
    opt = fo.optim.AdamW([p], lr=0.1, weight_decay=0.0, engine=engine)
    plain = torch.optim.AdamW([q], lr=0.1, weight_decay=0.0)
    for x, o in ((p, opt), (q, plain)):
        for decay in (0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.3):
            o.param_groups[0]["weight_decay"] = decay
            one_step(x, o)
    assert gap([p.detach()], [q.detach()]) <= 1e-6


def test_a_schedule_that_begins_at_zero_counts_from_there():
    decay = fo.add_decayed_weights(lambda count: 0.0 if count < 4 else 0.5)
    tx = fo.chain(fo.scale_by_adam(), decay, fo.scale_by_learning_rate(0.1))
    eager, _ = trained(KINDS["plain"], "eager", steps=7, tx=tx)
    fused, opt = trained(KINDS["plain"], "fused", steps=7, tx=tx)
    assert opt.engine == "fused"
    close([p.detach() for p in eager], [p.detach() for p in fused])


class Past(NamedTuple):
    """Tensors as they were in the last two steps."""

    p: torch.Tensor
    g: torch.Tensor
    older: torch.Tensor


class looks_back(fo.TensorRule):
    """Stores what it was given as it is, and gives back what it has stored."""

    elementwise = True
    needs_params = True

    def init_tensor(self, p):
        return Past(*(torch.zeros_like(p) for _ in range(3)))

    def update_tensor(self, g, slots, p, s):
        return slots.older, Past(p.to(p.dtype), g, slots.g.clone())


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach", "differentiable"])
@pytest.mark.parametrize("kernels", ["native", "interpreted"])
def test_what_a_rule_stores_is_what_it_was_given(engine, kernels, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", kernels)
    tx, follow = fo.chain(looks_back(), fo.scale(-1.0)), engine == "differentiable"
    p = torch.nn.Parameter(filled((3,)))
    p = p.clone() if follow else p
    opt = fo.Optimizer([p], tx, differentiable=follow, engine="auto" if follow else engine)
    now, past = p.detach().clone(), [torch.zeros(3)] * 3
    for t in range(5):
        g = torch.full((3,), 1.0 + t)
        p.grad = g.clone()
        opt.step()
        now, past = now - past[2], [now, g, past[1]]
        state = opt.state[p]
        assert follow or opt.engine == engine
        assert torch.equal(p.detach(), now)
        assert all(torch.equal(state[k], x) for k, x in zip(Past._fields, past, strict=True))


def test_groups_have_numbers_of_their_own_in_lists_too():
    params = [torch.nn.Parameter(filled((3,))) for _ in range(4)]
    groups = [{"params": params[:2], "lr": 0.1}, {"params": params[2:], "lr": 0.3}]
    opt = fo.optim.AdamW(groups, engine="foreach")
    others = [p.detach().clone().requires_grad_() for p in params]
    groups = [{"params": others[:2], "lr": 0.1}, {"params": others[2:], "lr": 0.3}]
    plain = torch.optim.AdamW(groups)
    for _ in range(3):
        _stepped(params, opt)
        _stepped(others, plain)
    assert opt.engine == "foreach"
    assert gap([p.detach() for p in params], [p.detach() for p in others]) <= 1e-6


@pytest.mark.parametrize("engine", ["eager", "fused", "foreach", "torch", "auto"])
def test_tensors_on_two_devices_in_one_step(engine):
    """The second one only pretends: its tensors have no values."""
    here, there = torch.linspace(-1.0, 1.0, 4), torch.ones(3, device="meta")
    p, far, q = map(torch.nn.Parameter, (here, there, here.clone()))
    mine = fo.optim.AdamW([p, far], lr=0.1, engine=engine)
    theirs = torch.optim.AdamW([q], lr=0.1)
    for t in range(4):
        for x in (p, far, q):
            x.grad = torch.full_like(x, t + 1.0)
        mine.step()
        theirs.step()
    assert gap([p.detach()], [q.detach()]) <= 1e-6
    assert mine.state[far]["exp_avg"].device == far.device


LAZY = {
    "negated": lambda g: torch._neg_view(-g),
    "conjugated": lambda g: g.conj().resolve_conj().conj() if g.is_complex() else g,
    "both": lambda g: (
        torch._neg_view(-g.conj().resolve_conj()).conj() if g.is_complex() else torch._neg_view(-g)
    ),
}


@pytest.mark.parametrize("lazy", LAZY.values(), ids=LAZY)
@pytest.mark.parametrize("engine", ["eager", "torch", "foreach", "fused", "auto"])
@pytest.mark.parametrize("tx", [fo.adamw(0.1), fo.sgd(0.1, momentum=0.9), TX], ids=str)
@pytest.mark.parametrize("kind", ["plain", "complex"])
@pytest.mark.parametrize("always", [True, False], ids=["always", "now and then"])
def test_gradients_may_be_negated_or_conjugated_when_they_are_read(kind, tx, engine, lazy, always):
    count = iter(range(100))

    def otherwise(g):
        return lazy(g) if always or next(count) % 3 == 1 else g

    plain, _ = trained(KINDS[kind], engine, tx=tx)
    ours, _ = trained(KINDS[kind], engine, tx=tx, grads=otherwise)
    close([p.detach() for p in plain], [p.detach() for p in ours])


@pytest.mark.parametrize("engine", ["eager", "torch", "foreach", "fused", "auto"])
def test_parameters_may_be_negated_when_they_are_read(engine):
    p, q = (torch.nn.Parameter(x) for x in (torch._neg_view(-torch.ones(3)), torch.ones(3)))
    for param in (p, q):
        opt = fo.Optimizer([param], fo.adamw(0.1), engine=engine)
        for _ in range(3):
            param.grad = torch.ones(3)
            opt.step()
    close([p.detach()], [q.detach()])


@pytest.mark.parametrize("lazy", LAZY.values(), ids=LAZY)
def test_pure_updates_take_what_is_negated_or_conjugated(lazy):
    g = {"w": torch.complex(filled((3,)), filled((3,)) ** 2)}
    p = {"w": torch.ones_like(g["w"])}
    tx = fo.adamw(0.1)
    expected, _ = tx.update(g, tx.init(p), p)
    lazy_g, lazy_p = {"w": lazy(g["w"])}, {"w": lazy(p["w"])}
    found, _ = tx.update(lazy_g, tx.init(lazy_p), lazy_p)
    torch.testing.assert_close(found["w"], expected["w"])
