"""Whole steps of training as one graph."""

import io

import pytest
import torch
from torch.func import vmap

import funcopt as fo

from . import common

SCHEDULES = [
    fo.constant_schedule(0.1),
    fo.linear_schedule(0.1, 0.0, 60),
    fo.polynomial_schedule(0.1, 0.01, 2.0, 60),
    fo.exponential_decay(0.1, 30, 0.5),
    fo.step_decay_schedule(0.1, 30, 0.5),
    fo.multi_step_decay_schedule(0.1, (20, 50), 0.5),
    fo.join_schedules((fo.constant_schedule(0.1), fo.linear_schedule(0.1, 0.0, 20)), (30,)),
    fo.cosine_decay_schedule(0.1, 60),
    fo.cosine_restarts_schedule(0.1, 10, t_mult=2),
    fo.one_cycle_schedule(0.1, 80),
    fo.warmup_cosine_decay_schedule(0.0, 0.1, 10, 80),
    fo.warmup_stable_decay_schedule(0.1, 10, 40, 30),
    fo.half_life_schedule(0.1, 0.9, 60),
    fo.inverse_sqrt_schedule(0.1, 10),
    fo.piecewise_constant_schedule(0.1, (20, 50), (0.5, 0.5)),
    fo.piecewise_interpolate_schedule(0.1, (20, 50), (0.5, 0.5)),
    fo.cosine_cycles_schedule(0.1, 60, num_cycles=2),
    fo.cyclic_schedule(0.01, 0.1, 20),
    fo.ema_warmup_schedule(0.9),
    fo.power_ema_schedule(0.1),
]


PARAMS = {
    "bias": torch.ones(2, dtype=torch.float64),
    "weight": torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3),
}


def parabola(params, target):
    return sum((p - target).square().sum() for p in fo.tree.leaves(params))


class Graphs:
    """A compiler that runs graphs as they are, and counts them."""

    def __init__(self):
        self.count = 0
        torch.compiler.reset()

    def __call__(self, module, inputs):
        self.count += 1
        return module.forward


def test_every_schedule_is_here():
    public = {value for value in vars(fo.schedules).values() if isinstance(value, type)}
    assert {type(schedule) for schedule in SCHEDULES} == public


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_one_graph_for_a_hundred_steps(schedule):
    tx = fo.adam(schedule)
    step, graphs = fo.train_step(parabola, tx), Graphs()
    compiled = torch.compile(step, backend=graphs, fullgraph=True)
    state = other = fo.TrainState.start(tx, PARAMS)
    for batch in torch.linspace(-1.0, 1.0, 100, dtype=torch.float64).unbind():
        state, value = compiled(state, batch)
        other, expected = step(other, batch)
    assert common.close((state, value), (other, expected))
    assert graphs.count == 1


@pytest.mark.parametrize("name", ["adam", "all of them"])
def test_one_graph_for_many_models(name):
    tx, graphs = common.every_transformation()[name], Graphs()
    step = vmap(fo.train_step(parabola, tx), in_dims=(0, None))
    compiled = torch.compile(step, backend=graphs, fullgraph=True)
    params = [fo.tree.map(lambda p, i=i: p + i, PARAMS) for i in range(3)]
    state = other = fo.stack([fo.TrainState.start(tx, p) for p in params])
    for batch in torch.linspace(-1.0, 1.0, 8, dtype=torch.float64).unbind():
        state, _ = compiled(state, batch)
        other, _ = step(other, batch)
    assert common.close(state, other)
    assert graphs.count == 1


def test_numbers_that_change_need_no_new_graph():
    """The rate, as a tensor, and the derivative through the step by it."""
    graphs = Graphs()

    def after(rate, state, batch):
        state, _ = fo.train_step(parabola, fo.adam(rate))(state, batch)
        return parabola(state.params, batch)

    slope = torch.func.grad(after)
    compiled = torch.compile(slope, backend=graphs, fullgraph=True)
    start, batch = fo.TrainState.start(fo.adam(), PARAMS), torch.tensor(0.5)
    for rate in torch.logspace(-3, 0, 6, dtype=torch.float64).unbind():
        assert common.close(compiled(rate, start, batch), slope(rate, start, batch))
    assert graphs.count == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")
def test_a_sweep_compiles():
    """With the real compiler, in float32, in two chunks, the last of them filled up."""
    torch.compiler.reset()
    params = fo.tree.cast(common.params(), torch.float32)
    batches = fo.tree.cast(common.batches(4), torch.float32)
    values = {"lr": [0.1, 0.01, 0.2]}
    plain, compiled = (
        fo.sweep(
            common.loss,
            fo.adam(),
            values,
            params,
            batches,
            chunk_size=2,
            compile=compile,
            progress=False,
        )
        for compile in (False, True)
    )
    assert common.close(plain.losses, compiled.losses, 1e-5)
    assert common.close(plain.params, compiled.params, 1e-5)


@pytest.mark.parametrize("models", [1, 3])
def test_an_exported_step_is_the_step(models):
    tx = fo.adamw(fo.cosine_decay_schedule(0.1, 20))
    step, state = fo.train_step(common.loss, tx), fo.TrainState.start(tx, common.params())
    if models > 1:
        step = vmap(step, in_dims=(0, None))
        state = fo.stack([fo.TrainState.start(tx, common.params(seed)) for seed in range(models)])
    batches = common.batches(10)
    file = io.BytesIO()
    torch.export.save(fo.export_step(step, state, batches[0]), file)
    file.seek(0)
    run, tensors = torch.export.load(file).module(), fo.state_dict(state)
    for batch in batches:
        tensors, value = run(tensors, batch)
        state, expected = step(state, batch)
        assert common.close(value, expected, 1e-12)
    assert common.close(fo.load_state_dict(state, tensors), state, 1e-12)
