"""`step(closure)` for what evaluates the loss itself: parameters move, and come back."""

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

import funcopt as fo
from funcopt import optim
from funcopt.errors import ExtraArgumentError, HyperparameterError, StructureError

from ..closures import closure_of, gap, named_parameters, network, purely, regression, wrapped

SAM = fo.sam(fo.sgd(0.1))
TXS = [SAM, fo.lbfgs(max_iter=3, line_search=fo.strong_wolfe())]


def sam_optimizer(tx=SAM, **options):
    mine = named_parameters(network())
    return mine, fo.Optimizer(list(mine.items()), tx, **options)


@pytest.mark.parametrize("tx", TXS, ids=lambda tx: type(tx).__name__)
def test_a_closure_that_fails_changes_nothing(tx):
    mine, opt = sam_optimizer(tx)
    opt.step(closure_of(opt, mine))
    before = {n: (p.detach().clone(), p.grad.clone()) for n, p in mine.items()}
    state = {n: dict(opt.state[p]) for n, p in mine.items()}
    kept = {n: {k: v.clone() for k, v in own.items()} for n, own in state.items()}
    calls = []

    def closure():
        calls.append(1)
        value = closure_of(opt, mine)()
        if len(calls) == 2:
            assert any(not torch.equal(p, before[n][0]) for n, p in mine.items())
            raise RuntimeError("out of memory")
        return value

    with pytest.raises(RuntimeError, match="out of memory"):
        opt.step(closure)
    for n, p in mine.items():
        assert torch.equal(p, before[n][0])
        assert all(torch.equal(v, kept[n][k]) for k, v in opt.state[p].items())
    assert gap({n: p.grad for n, p in mine.items()}, fo.value_and_grad(regression)(mine)[1]) < 1e-15


def test_after_a_step_the_gradients_are_those_of_its_beginning():
    mine, opt = sam_optimizer()
    held = []

    def closure():
        value = closure_of(opt, mine)()
        held.append({n: p.grad for n, p in mine.items()})
        return value

    loss = opt.step(closure)
    expected, grads = fo.value_and_grad(regression)(network())
    assert torch.equal(loss, expected)
    assert gap({n: p.grad for n, p in mine.items()}, grads) < 1e-15
    assert len(held) == 2


def test_a_closure_need_not_set_gradients_to_zero():
    mine, opt = sam_optimizer()

    def closure():
        value = regression(mine)
        value.backward()
        return value

    opt.step(closure)
    assert gap(mine, purely(SAM, network(), 1)[0]) < 1e-15


@pytest.mark.parametrize("tx", TXS, ids=lambda tx: type(tx).__name__)
def test_gradients_that_are_written_into_the_same_memory_are_kept(tx):
    """As the buckets of DDP are."""
    mine, opt = sam_optimizer(tx)
    memory = {n: torch.zeros_like(p) for n, p in mine.items()}

    def closure():
        value, grads = fo.value_and_grad(regression)(mine)
        for n, p in mine.items():
            p.grad = memory[n].copy_(grads[n].detach())
        return value

    opt.step(closure)
    first = fo.value_and_grad(regression)(network())[1]
    assert gap({n: p.grad for n, p in mine.items()}, first) < 1e-15
    for _ in range(2):
        opt.step(closure)
    assert gap(mine, purely(tx, network(), 3)[0]) < 1e-10


def test_without_a_closure_it_says_what_one_does():
    mine, opt = sam_optimizer()
    closure_of(opt, mine)()
    with pytest.raises(ExtraArgumentError) as error:
        opt.step()
    assert str(error.value) == (
        "`Optimizer.step`: `sam` evaluates the loss more than once in a step, so it needs a "
        "closure: call `step(closure)`, where `closure()` sets the gradients to zero, computes "
        "the loss, calls `loss.backward()` and returns the loss."
    )
    assert gap(mine, network()) == 0.0


def test_a_function_of_the_parameters_is_for_the_pure_form():
    mine, opt = sam_optimizer()
    with pytest.raises(ExtraArgumentError, match="`value_fn` is made of the closure"):
        opt.step(closure_of(opt, mine), value_fn=regression)


def test_a_closure_that_returns_nothing_is_told():
    mine, opt = sam_optimizer()
    with pytest.raises(ExtraArgumentError, match="the closure must return the loss, got None"):
        opt.step(lambda: closure_of(opt, mine)() and None)
    assert gap(mine, network()) == 0.0


def test_numbers_are_losses_too():
    tx = fo.lbfgs(max_iter=3, line_search=fo.strong_wolfe())
    mine, opt = sam_optimizer(tx)
    for _ in range(3):
        opt.step(lambda: closure_of(opt, mine)().item())
    assert gap(mine, purely(tx, network(), 3)[0]) < 1e-10


@pytest.mark.parametrize("tx", TXS, ids=lambda tx: type(tx).__name__)
def test_maximising_is_minimising_the_negative(tx):
    mine, _ = wrapped(
        lambda ps: fo.Optimizer(ps, tx, maximize=True), network(), 3, lambda p: -regression(p)
    )
    assert gap(mine, purely(tx, network(), 3)[0]) < 1e-10


def test_one_loss_has_one_sign():
    mine = named_parameters(network())
    groups = [{"params": [mine["b"]]}, {"params": [mine["w"]], "maximize": True}]
    opt = fo.Optimizer(groups, SAM)
    with pytest.raises(HyperparameterError, match="`maximize` must be the same in all"):
        opt.step(closure_of(opt, mine))
    assert gap(mine, network()) == 0.0


def test_other_transformations_call_it_once():
    mine, opt = sam_optimizer(fo.sgd(0.1))
    calls = []
    opt.step(lambda: calls.append(1) or closure_of(opt, mine)())
    assert len(calls) == 1
    assert not fo.sgd(0.1).needs_closure
    assert SAM.needs_closure


def test_what_dcp_asks_for_is_only_begun():
    """Its probing step has no closure."""
    net = torch.nn.ParameterDict(network())
    mine = dict(net.named_parameters())
    opt = fo.Optimizer(mine.items(), fo.sam(fo.sgd(0.1, momentum=0.9)))
    get_optimizer_state_dict(net, opt)
    assert gap(mine, network()) == 0.0
    assert all("momentum_buffer" in opt.state[p] for p in mine.values())


def no_state(params):
    return ()


def half_way(updates, state, params, *, value_fn):
    """The gradient between here and a small step on: a stage of whole trees, as in Optax."""
    there = fo.tree.map(lambda p, g: p - 0.05 * g, params, updates)
    return fo.value_and_grad(value_fn)(there)[1], state


def test_a_stage_of_whole_trees_takes_its_gradients_from_there_too():
    tx = fo.chain(fo.from_functions(no_state, half_way), fo.sgd(0.1))
    assert tx.needs_closure
    mine, _ = wrapped(lambda ps: fo.Optimizer(ps, tx), network(), 4)
    params, state = network(), tx.init(network())
    for _ in range(4):
        grads = fo.value_and_grad(regression)(params)[1]
        updates, state = tx.update(grads, state, params, value_fn=regression)
        params = fo.apply_updates(params, updates)
    assert gap(mine, params) < 1e-14


@pytest.mark.parametrize(
    ("value_fn", "say"),
    [
        (lambda p: p["b"], r"must return the loss, a 0-d .* shape \(4,\)"),
        (lambda p: 1.0, "got float"),
        (lambda p: p["b"].sum().long(), "torch.int64"),
    ],
)
def test_a_loss_is_one_number(value_fn, say):
    start = network()
    with pytest.raises(StructureError, match=say):
        SAM.update(start, SAM.init(start), start, value_fn=value_fn)
    with pytest.raises(StructureError, match=say):
        fo.value_and_grad(value_fn)(start)


def test_the_pure_form_says_what_is_missing():
    start = network()
    with pytest.raises(ExtraArgumentError) as error:
        SAM.update(start, SAM.init(start), start)
    assert str(error.value) == (
        "`sam` evaluates the loss more than once in a step, and needs it as a function: call "
        "`update(grads, state, params, value_fn=...)`, where `value_fn(params)` is the loss."
    )
    with pytest.raises(ExtraArgumentError, match="must be a function of the parameters"):
        SAM.update(start, SAM.init(start), start, value_fn=torch.ones(()))


def test_gradients_of_a_tree_with_holes():
    value, grads = fo.value_and_grad(lambda p: p["a"].square().sum())(
        {"a": torch.ones(2), "b": None}
    )
    assert value == 2.0
    assert grads["b"] is None
    assert torch.equal(grads["a"], torch.full((2,), 2.0))


def test_a_compiled_model_is_evaluated_by_the_closure():
    mine = named_parameters(network())
    opt = optim.LBFGS(list(mine.items()), max_iter=3, line_search_fn="strong_wolfe")
    compiled = torch.compile(regression, backend="eager")
    for _ in range(2):
        opt.step(closure_of(opt, mine, compiled))
    plain, _ = wrapped(
        lambda ps: optim.LBFGS(ps, max_iter=3, line_search_fn="strong_wolfe"), network(), 2
    )
    assert gap(mine, plain) < 1e-12
