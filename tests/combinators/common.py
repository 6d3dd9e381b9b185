"""Two ways to train by the same gradients: the pure form, and a torch optimizer."""

import copy
import pickle

import torch

import funcopt as fo

START = {
    "b": torch.tensor([0.5, -1.0], dtype=torch.float64),
    "gain": torch.tensor(2.0, dtype=torch.float64),
    "w": torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3),
}


def grads_at(params, t):
    """Gradients that depend on the parameter, its name and the time, but on no other parameter."""
    return {name: gradient(name, p, t) for name, p in params.items()}


def gradient(name, p, t):
    angles = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape)
    return (torch.sin(1.0 + angles + 1.7 * t + len(name)) + 0.1 * p).to(p.dtype)


def purely(tx, steps, params=START, grads_at=grads_at, state=None, first=0):
    """Parameters and state after so many updates."""
    state = tx.init(params) if state is None else state
    for t in range(first, first + steps):
        updates, state = tx.update(grads_at(params, t), state, params)
        params = fo.apply_updates(params, updates)
    return params, state


def named_parameters(params=START):
    return {name: torch.nn.Parameter(p.clone()) for name, p in params.items()}


def step(opt, params, grads):
    for name, p in params.items():
        p.grad = grads.get(name)
    opt.step()


def drive(opt, params, steps, grads_at=grads_at, first=0, after=lambda: None):
    """So many steps of a torch optimizer."""
    for t in range(first, first + steps):
        step(opt, params, grads_at(values(params), t))
        after()


def wrapped(tx, steps, params=START, grads_at=grads_at, engine="auto"):
    """Parameters after so many steps of an optimizer, and the optimizer."""
    mine = named_parameters(params)
    opt = fo.Optimizer(list(mine.items()), tx, engine=engine)
    drive(opt, mine, steps, grads_at)
    return mine, opt


def values(params):
    return {name: p.detach().clone() for name, p in params.items()}


def same(a, b, tol=0.0):
    """Whether two dicts of tensors hold the same, by default to the last bit but that of zero."""
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(a[name].detach(), b[name].detach(), rtol=tol, atol=tol)
    return True


def same_bits(a, b):
    """Whether two trees of tensors are the same to the last bit, the sign of zero included."""
    a, b = fo.tree.leaves(a), fo.tree.leaves(b)
    assert len(a) == len(b)
    return all(
        x.dtype == y.dtype and torch.equal(_bytes_of(x), _bytes_of(y))
        for x, y in zip(a, b, strict=True)
    )


def _bytes_of(x):
    return x.detach().contiguous().flatten().view(torch.uint8)


def state_of(opt):
    """A copy of all that the optimizer remembers."""
    return copy.deepcopy(opt.state_dict()["state"])


def the_optimizer_does_the_same(tx, steps=7, grads_at=grads_at):
    pure, _ = purely(tx, steps, grads_at=grads_at)
    mine, _ = wrapped(tx, steps, grads_at=grads_at)
    return same(values(mine), pure)


def resumes(tx, stop, steps, grads_at=grads_at):
    """Whether a run that is saved, loaded elsewhere and continued ends where the other one ends."""
    straight, _ = wrapped(tx, steps, grads_at=grads_at)
    first, opt = wrapped(tx, stop, grads_at=grads_at)
    saved = pickle.loads(pickle.dumps(opt.state_dict()))
    again = named_parameters(values(first))
    fresh = fo.Optimizer(list(again.items()), tx)
    fresh.load_state_dict(saved)
    assert same_bits(state_of(fresh), saved["state"])
    drive(fresh, again, steps - stop, grads_at, first=stop)
    return same_bits(values(again), values(straight))
