"""The optimizers that are held to the contract, each beside torch's own, and a small model."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt import optim

MAX_NORM = 0.05


class Kind(NamedTuple):
    """An optimizer, and what of torch makes the same steps."""

    name: str
    make: Callable[..., torch.optim.Optimizer]
    theirs: Callable[..., torch.optim.Optimizer]
    clips: bool = False
    slots: frozenset[str] = frozenset()
    momentum: str = "betas"

    def __str__(self):
        return self.name


def adamw(params, lr=0.01, **more):
    return optim.AdamW(params, lr=lr, **more)


def sgd(params, lr=0.01, **more):
    return optim.SGD(params, lr=lr, **{"momentum": 0.9, **more})


def clipped(params, lr=0.01, **more):
    """A chain; `more` are the arguments of AdamW."""
    tx = fo.chain(fo.clip_by_global_norm(MAX_NORM), fo.adamw(lr, **more))
    return fo.Optimizer(params, tx)


def short(params, lr=0.01, **more):
    return optim.AdamW(params, lr=lr, max_grad_norm=MAX_NORM, **more)


def torch_adamw(params, lr=0.01, **more):
    return torch.optim.AdamW(params, lr=lr, **more)


def torch_sgd(params, lr=0.01, **more):
    return torch.optim.SGD(params, lr=lr, **{"momentum": 0.9, **more})


MOMENTS = frozenset({"exp_avg", "exp_avg_sq"})

KINDS = [
    Kind("AdamW", adamw, torch_adamw, slots=MOMENTS),
    Kind("SGD", sgd, torch_sgd, slots=frozenset({"momentum_buffer"}), momentum="momentum"),
    Kind("chain", clipped, torch_adamw, clips=True, slots=MOMENTS),
    Kind("short way", short, torch_adamw, clips=True, slots=MOMENTS),
]

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def model(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(
        dtype
    )


DATA = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)


def loss_of(net):
    data = DATA.to(next(net.parameters()).dtype)
    return (net(data) - data.sum(1, keepdim=True).sin()).square().mean()


def backward(net, opt, clips=False):
    opt.zero_grad()
    loss = loss_of(net)
    loss.backward()
    if clips:
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_NORM)
    return loss


def told(opt, loss):
    """The extra arguments of a step: the loss, for what reads it."""
    return {"value": loss} if "value" in (opt.tx.extra_names() or ()) else {}


def train(net, opt, steps, clips=False):
    for _ in range(steps):
        loss = backward(net, opt, clips)
        opt.step(**(told(opt, loss) if hasattr(opt, "tx") else {}))


def values(net):
    return [p.detach().clone() for p in net.parameters()]


def gap(net, other):
    """The largest difference between the parameters of two models, or of one and a list."""
    theirs = other if isinstance(other, list) else list(other.parameters())
    return max((p - q).abs().max().item() for p, q in zip(net.parameters(), theirs, strict=True))


def parameter(*shape, dtype=torch.float64, grad=True):
    count = torch.Size(shape).numel()
    p = torch.nn.Parameter(torch.linspace(-1, 1, max(count, 1), dtype=dtype)[:count].view(shape))
    if grad:
        p.grad = torch.full_like(p, 0.5)
    return p


def copied(state_dict):
    """A state, with tensors of its own."""
    if isinstance(state_dict, torch.Tensor):
        return state_dict.clone()
    if isinstance(state_dict, dict):
        return {key: copied(value) for key, value in state_dict.items()}
    if isinstance(state_dict, (list, tuple)):
        return type(state_dict)(map(copied, state_dict))
    return state_dict


def assert_same_state(one, other):
    """Two `state_dict()`s, to the bit."""
    assert one.keys() == other.keys()
    for key in one:
        a, b = one[key], other[key]
        if isinstance(a, dict):
            assert_same_state(a, b)
        elif isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype
            assert torch.equal(a, b), key
        elif isinstance(a, list) and a and isinstance(a[0], dict):
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                assert_same_state(x, y)
        else:
            assert a == b, key


def _chain_of(tx):
    return lambda net: fo.Optimizer(net.parameters(), tx)


OPTIMIZERS = {
    "AdamW": lambda net: adamw(net.parameters()),
    "AdamW of names": lambda net: adamw(net.named_parameters()),
    "AdamW amsgrad": lambda net: adamw(net.parameters(), amsgrad=True),
    "SGD": lambda net: sgd(net.parameters()),
    "SGD without momentum": lambda net: sgd(net.parameters(), momentum=0),
    "RMSprop": lambda net: optim.RMSprop(net.parameters(), momentum=0.9, centered=True),
    "ASGD": lambda net: optim.ASGD(net.parameters(), t0=1),
    "LAMB": lambda net: optim.LAMB(net.parameters(), lr=0.01),
    "chain": lambda net: clipped(net.parameters()),
    "short ways": lambda net: optim.AdamW(
        net.parameters(), lr=0.01, max_grad_norm=MAX_NORM, ema=0.9, accumulate=2
    ),
    "short ways of labels": lambda net: optim.Muon(
        net.named_parameters(), ns_dtype=None, max_grad_norm=MAX_NORM, ema=0.9, accumulate=2
    ),
    "schedule": _chain_of(
        fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(fo.linear_schedule(0.1, 0.0, 20)))
    ),
    "wide slots": _chain_of(fo.chain(fo.scale_by_adam(state_dtype=torch.float32), fo.scale(-0.01))),
    "accumulate": _chain_of(fo.accumulate(fo.adamw(0.01), 3)),
    "skip_if": _chain_of(fo.skip_if(fo.chain(fo.clip_by_global_norm(MAX_NORM), fo.adamw(0.01)))),
    "skip outliers": _chain_of(fo.skip_if(fo.adamw(0.01), fo.norm_outlier(warmup=2))),
    "average": _chain_of(fo.chain(fo.adamw(0.01), fo.ema_of_params(0.9))),
    "prodigy": lambda net: optim.Prodigy(net.parameters(), d0=0.01, weight_decay=0.1),
    "dadapt": lambda net: optim.DAdaptAdamW(net.parameters(), d0=0.01),
    "schedule_free": lambda net: optim.AdamWScheduleFree(net.parameters(), lr=0.01),
    "lookahead": _chain_of(fo.lookahead(fo.adamw(0.01), 2, reset=True)),
    "cautious": _chain_of(fo.chain(fo.cautious(fo.mars(0.01)), fo.scale(0.5))),
    "noise": _chain_of(fo.chain(fo.add_noise(0.01, 0.55), fo.adamw(0.01))),
    "partition": lambda net: fo.Optimizer(
        net.named_parameters(),
        fo.partition(
            {"heavy": fo.sgd(0.1, momentum=0.9), "other": fo.adamw(0.01)},
            [(r"weight$", "heavy"), (r"bias$", "other")],
        ),
    ),
    "SOAP": lambda net: optim.SOAP(net.parameters(), precondition_frequency=2, max_precond_dim=3),
    "Shampoo": lambda net: optim.Shampoo(net.parameters(), momentum=0.9),
    "Kron": lambda net: optim.Kron(net.named_parameters(), update_probability=0.5),
    "Muon": lambda net: optim.Muon(net.named_parameters(), lr=0.01, ns_dtype=None),
}
"""One optimizer for every kind of memory."""

OF_OTHER_SHAPES = {"SOAP", "Shampoo", "Kron"}
"""Those with entries that are shaped otherwise than the parameter."""

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
