"""A program, run in several ways."""

import copy
import functools
import math
import pickle
import warnings
from typing import NamedTuple

import torch

import funcopt as fo

from ..cases import bowl
from .programs import Change, Copy, Decay, Freeze, Join, Leave, Move, Reload, Step

NOISE = 2.0**-50
NAMES = "abcdefghijkl"


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


def ending(run):
    """A run that returns its parameters, as its `End`: errors of the library are one."""

    @functools.wraps(run)
    def end(*args, **options):
        try:
            return End(None, [p.detach() for p in run(*args, **options)])
        except fo.errors.FuncoptError as error:
            return End(f"{type(error).__name__}: {error}", [])

    return end


class Trained:
    """Parameters and an optimizer around them."""

    def __init__(self, program, engine, backward=None):
        self.tx, self.engine, self.t = program.tx, engine, 0
        self.backward = backward  # "usual" or "steps", if autograd makes the gradients
        self.params, self.ever = {}, 0
        self.groups = [[self._new(leaf) for leaf in program.tree]]  # of names
        self.opt = self._around(self.groups)

    def _new(self, leaf):
        name, self.ever = NAMES[self.ever], self.ever + 1
        self.params[name] = torch.nn.Parameter(leaf.make(self.ever - 1))
        return name

    def _around(self, groups):
        named = [{"params": [(name, self.params[name]) for name in group]} for group in groups]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it ascends, which is no matter here
            return self._hooked(fo.Optimizer(named, self.tx, engine=self.engine))

    def _hooked(self, opt):
        if self.backward == "steps":
            opt.step_in_backward()
        return opt

    def _at(self, which):
        return list(self.params)[which % len(self.params)]

    def do(self, event, noise):
        match event:
            case Step(missing):
                for name, p in self.params.items():
                    i = NAMES.index(name)
                    none = i in missing or not p.requires_grad
                    g = None if none else gradient(p, i, self.t, event, noise)
                    p.grad = None if self.backward else g
                    if g is not None and self.backward:  # which lays it out as the parameter
                        p.backward(g)
                        stepped = self.backward == "steps" and p._post_accumulate_grad_hooks
                        assert (p.grad is None) == bool(stepped)
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
                self.groups = [
                    [*names[turn % len(names) :], *names[: turn % len(names)]]
                    for names in self.groups
                ]
                self.opt = self._around(self.groups)
                self.opt.load_state_dict(saved)
            case Copy(False):
                self.params, self.opt = copy.deepcopy((self.params, self.opt))
                self._hooked(self.opt)
            case Copy(True):
                self.params, self.opt = pickle.loads(pickle.dumps((self.params, self.opt)))
                self._hooked(self.opt)
            case Move(which):
                p = self.params[self._at(which)]
                p.data = p.data.clone()
            case Freeze(which):
                p = self.params[self._at(which)]
                p.requires_grad_(not p.requires_grad)
            case Join(leaf):
                if self.ever < len(NAMES):
                    name = self._new(leaf)
                    self.groups.append([name])
                    self.opt.add_param_group({"params": [(name, self.params[name])]})
            case Leave(which):
                name = self._at(which)
                if len(self.params) > 1:
                    self.opt.drop(name)
                    del self.params[name]
                    left = [[own for own in group if own != name] for group in self.groups]
                    self.groups = [group for group in left if group]
            case Decay(gamma):
                if all(isinstance(group.get("lr"), float) for group in self.opt.param_groups):
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", UserWarning)  # the order of the calls
                        torch.optim.lr_scheduler.ExponentialLR(self.opt, gamma).step()


@ending
def wrapped(program, engine, noise=False, backward=None):
    """The program, on a torch optimizer."""
    run = Trained(program, engine, backward)
    for event in program.events:
        run.do(event, noise)
    return run.params.values()


@ending
def purely(program, noise=False):
    """The program in the pure form, as a plain loop; only its steps are made."""
    params = {NAMES[i]: leaf.make(i) for i, leaf in enumerate(program.tree)}
    tx = Trained(program, "eager").opt.tx  # with a learning rate at its end, if it had none
    state = tx.init(params)
    for t, step in enumerate(e for e in program.events if isinstance(e, Step)):
        grads = {k: gradient(p, i, t, step, noise) for i, (k, p) in enumerate(params.items())}
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
    return params.values()


@ending
def alone(program, noise=False):
    """A plain loop for each parameter, in the pure form: nothing happens without a gradient."""
    ends = []
    tx = Trained(program, "eager").opt.tx
    for i, leaf in enumerate(program.tree):
        params, frozen, t = {NAMES[i]: leaf.make(i)}, False, 0
        state = tx.init(params)
        for event in program.events:
            if isinstance(event, Freeze) and event.which % len(program.tree) == i:
                frozen = not frozen
            if not isinstance(event, Step):
                continue
            if not frozen and i not in event.missing:
                grads = {NAMES[i]: gradient(params[NAMES[i]], i, t, event, noise)}
                updates, state = tx.update(grads, state, params)
                params = fo.apply_updates(params, updates)
            t += 1
        ends += params.values()
    return ends


@ending
def closed(program, noise=False):
    """The program, with a closure for its loss."""
    run = Trained(program, "eager")

    def closure():
        ps = [p for p in run.params.values() if p.requires_grad]
        loss = bowl(list(run.params.values())) * (1 + NOISE if noise else 1)
        for p, g in zip(ps, torch.autograd.grad(loss, ps, create_graph=True), strict=True):
            p.grad = g  # with its graph, for second derivatives
        return loss.detach()

    for event in program.events:
        if isinstance(event, Step):
            run.opt.step(closure)
        else:
            run.do(event, noise)
    return run.params.values()


@ending
def evaluated(program, noise=False):
    """The same in the pure form."""
    params = {NAMES[i]: leaf.make(i) for i, leaf in enumerate(program.tree)}

    def loss(params):
        return bowl(params) * (1 + NOISE if noise else 1)

    tx = Trained(program, "eager").opt.tx
    state = tx.init(params)
    for _ in (e for e in program.events if isinstance(e, Step)):
        value, grads = fo.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, value_fn=loss)
        params = fo.apply_updates(params, updates)
    return params.values()


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
