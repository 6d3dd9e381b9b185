"""On a device that is not there: what has to lie where, checked with tensors that only pretend."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

import funcopt as fo
from funcopt.combinators import walk

from ..cases import CASES, bowl

# A build without CUDA cannot even pretend `isfinite`, `flip` and others, nor `torch.func.grad`.
BEYOND = ("skip_if", "not_finite", "norm_outlier", "soap", "lbfgs")


def by_singular_vectors(tx):
    return any(isinstance(x, fo.low_rank) and x.projection == "svd" for _, x in walk(tx))


PRETENDED = [
    c
    for c in CASES
    if not (c.extra or any(name in str(c) for name in BEYOND) or by_singular_vectors(c.tx))
]


def tensors(device):
    return {
        "w": torch.randn(3, 2, device=device),
        "layers": torch.randn((), device=device),
        "gain": torch.randn(4, device=device),
    }


def gradients(tx, params):
    """As many as there are parameters; of four examples, where a chain takes those."""
    examples = (4,) if takes_examples(tx) else ()
    return {k: p.detach().expand((*examples, *p.shape)).clone() for k, p in params.items()}


def takes_examples(tx):
    return tx.is_per_tensor() and tx.takes_examples()


def places(state):
    leaves = zip(fo.tree.names(state), fo.tree.leaves(state), strict=True)
    return [(name, x.device) for name, x in leaves]


@pytest.mark.parametrize("capturable", [False, True], ids=["clock on the CPU", "capturable"])
@pytest.mark.parametrize("case", PRETENDED, ids=str)
def test_nothing_meets_a_tensor_of_another_device(case, capturable):
    with FakeTensorMode():
        params = tensors("cuda")
        grads = gradients(case.tx, params)
        state = case.tx.init(params, capturable=capturable)
        for _ in range(2):
            updates, new = case.tx.update(grads, state, params, **case.extra)
            assert all(u.device.type == "cuda" for u in fo.tree.leaves(updates))
            assert places(new) == places(state)
            state = new


@pytest.mark.parametrize("devices", [("cuda:0", "cuda:1"), ("cuda:1", "cpu"), ("cpu", "cuda:1")])
@pytest.mark.parametrize("capturable", [False, True], ids=["clock on the CPU", "capturable"])
@pytest.mark.parametrize("case", PRETENDED, ids=str)
def test_parameters_on_two_devices(case, capturable, devices):
    with FakeTensorMode():
        params = {f"{k} {at}": x for at in devices for k, x in tensors(at).items()}
        grads = gradients(case.tx, params)
        state = case.tx.init(params, capturable=capturable)
        for _ in range(2):
            updates, new = case.tx.update(grads, state, params, **case.extra)
            assert [updates[k].device for k in params] == [p.device for p in params.values()]
            assert places(new) == places(state)
            state = new


def test_there_is_something_to_check():
    assert len(PRETENDED) > 40


# Tensors on "meta" have no values: who asks for one, or copies one to the CPU, gets an error. The
# clocks are on the CPU, where Python may look at them, as it is with tensors on a device.

LOOKS = (
    fo.lbfgs,
    fo.newton_cg,
    fo.line_search,
)  # by the clock on the CPU they know when to end: they wait
UNSEEN = [case for case in CASES if not isinstance(case.tx, LOOKS)]
LOOKING = [case for case in CASES if isinstance(case.tx, LOOKS)]


def three_updates(case, capturable=False):
    params = tensors("meta")
    state = case.tx.init(params, **({"capturable": True} if capturable else {}))
    grads = gradients(case.tx, params)
    for _ in range(3):
        updates, new = case.tx.update(grads, state, params, **case.extra)
        assert all(u.is_meta for u in fo.tree.leaves(updates))
        assert places(new) == places(state)
        state = new


@pytest.mark.parametrize("case", UNSEEN, ids=str)
def test_nothing_waits_for_the_device(case):
    three_updates(case)


@pytest.mark.parametrize("case", LOOKING, ids=str)
def test_what_ends_when_it_is_time_waits_unless_its_clock_is_on_the_device(case):
    three_updates(case, capturable=True)
    with pytest.raises(NotImplementedError, match="meta"):
        three_updates(case)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of chains that ascend
@pytest.mark.parametrize("case", UNSEEN, ids=str)
def test_no_step_of_an_optimizer_waits_for_the_device(case):
    params = {name: torch.nn.Parameter(p) for name, p in tensors("meta").items()}
    opt = fo.Optimizer(list(params.items()), case.tx)

    def closure():
        opt.zero_grad()
        loss = bowl(params)
        loss.backward()
        return loss

    for _ in range(3):
        for name, g in gradients(case.tx, params).items():
            setattr(params[name], "grad_sample" if takes_examples(case.tx) else "grad", g)
        opt.step(closure if case.extra else None)
        opt.metrics()


@pytest.mark.parametrize("look", [lambda x: x.item(), bool, lambda x: torch.zeros(()).copy_(x)])
def test_who_looks_gets_an_error(look):
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        look(torch.zeros((), device="meta"))
