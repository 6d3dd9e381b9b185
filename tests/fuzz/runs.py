"""A program, run in several ways."""

import copy
import math
import pickle
import warnings
from typing import NamedTuple

import torch

import funcopt as fo

from .programs import Change, Copy, Move, Reload, Step

NOISE = 2.0**-50


class End(NamedTuple):
    """What a run comes to: an error, or the parameters."""

    error: str | None
    params: list[torch.Tensor]


def gradient(p, i, t, step, noise):
    """Of a parameter at a time: fixed, so that no difference feeds on itself."""
    angles = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape)
    g = (1.0 + angles + 1.7 * t + i).sin() * step.scale
    if noise:
        g = g * (1 + NOISE * (12.9898 * (angles + i + t)).sin().sign())
    return (torch.complex(g, 0.3 * g + 0.1) if p.is_complex() else g).to(p.dtype)


class Trained:
    """Parameters and an optimizer around them."""

    def __init__(self, program, engine):
        self.tx, self.engine, self.t = program.tx, engine, 0
        self.params = {}
        for leaf in program.tree:
            self._new(leaf)
        self.opt = self._around(list(self.params))

    def _new(self, leaf):
        name = "abcdefghijkl"[len(self.params)]
        self.params[name] = torch.nn.Parameter(leaf.make(len(self.params)))
        return name

    def _around(self, names):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it ascends, which is no matter here
            return fo.Optimizer([(n, self.params[n]) for n in names], self.tx, engine=self.engine)

    def do(self, event, noise):
        match event:
            case Step(missing):
                for i, p in enumerate(self.params.values()):
                    p.grad = None if i in missing else gradient(p, i, self.t, event, noise)
                self.opt.step()
                self.t += 1
            case Change(group, key, factor):
                chosen = self.opt.param_groups[group % len(self.opt.param_groups)]
                keys = [k for k, v in chosen.items() if type(v) is float]
                if keys:
                    name = keys[key % len(keys)]
                    chosen[name] = chosen[name] * factor
            case Reload(turn):
                saved = pickle.loads(pickle.dumps(self.opt.state_dict()))
                names = list(self.params)
                turn %= len(names)
                self.opt = self._around([*names[turn:], *names[:turn]])
                self.opt.load_state_dict(saved)
            case Copy(False):
                self.params, self.opt = copy.deepcopy((self.params, self.opt))
            case Copy(True):
                self.params, self.opt = pickle.loads(pickle.dumps((self.params, self.opt)))
            case Move(which):
                p = list(self.params.values())[which % len(self.params)]
                p.data = p.data.clone()


def wrapped(program, engine, noise=False):
    """The program, on a torch optimizer."""
    try:
        run = Trained(program, engine)
        for event in program.events:
            run.do(event, noise)
    except fo.errors.FuncoptError as error:
        return End(f"{type(error).__name__}: {error}", [])
    return End(None, [p.detach() for p in run.params.values()])


def purely(program, noise=False):
    """The program in the pure form, as a plain loop; only its steps are made."""
    params = {"abcdefghijkl"[i]: leaf.make(i) for i, leaf in enumerate(program.tree)}
    try:
        tx = Trained(program, "eager").opt.tx  # with a learning rate at its end, if it had none
        state = tx.init(params)
        for t, step in enumerate(e for e in program.events if isinstance(e, Step)):
            grads = {k: gradient(p, i, t, step, noise) for i, (k, p) in enumerate(params.items())}
            updates, state = tx.update(grads, state, params)
            params = fo.apply_updates(params, updates)
    except fo.errors.FuncoptError as error:
        return End(f"{type(error).__name__}: {error}", [])
    return End(None, list(params.values()))


def gap(one, other):
    """The largest relative difference; what is not finite has to be the same."""
    most = 0.0
    for x, y in zip(one.params, other.params, strict=True):
        x, y = (z.to(torch.complex128).reshape(-1) for z in (x, y))
        odd = ~(torch.isfinite(x) & torch.isfinite(y))
        if (odd & ~((x == y) | (x.isnan() & y.isnan()))).any():
            return math.inf
        apart = ((x - y).abs() / (1 + x.abs()))[~odd]
        most = max(most, float(apart.max()) if apart.numel() else 0.0)
    return most


def assert_close(one, other, moved, rounding):
    """That two ends are as near as one rounding of the gradients moves one, times a hundred.

    `moved` is that end; `rounding` the unit of the narrowest dtype.
    """
    assert other.error == one.error
    allowed = max(1e3 * rounding, 1e2 * gap(one, moved))
    assert gap(one, other) <= allowed, f"{gap(one, other):.2e} apart, {allowed:.2e} allowed"


def rounding(program):
    return max(torch.finfo(leaf.dtype).eps for leaf in program.tree)
