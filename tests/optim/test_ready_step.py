"""A step that is like the one before is made by a few calls; whatever differs is seen."""

import collections
import copy
import gc
import random
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt import optim
from funcopt.engine._ready import AGAIN
from funcopt.optim import _optimizer

from ..cases import CASES

SHAPES = ((3, 3), (4,), (2, 5), ())

CHAINS = {
    "sgd": lambda: fo.sgd(0.1, momentum=0.9),
    "adamw": lambda: fo.adamw(1e-2),
    "lion": lambda: fo.lion(1e-2),
    "nadam": lambda: fo.nadam(1e-2),
    "clip, average": lambda: fo.chain(
        fo.clip_by_global_norm(0.3), fo.adamw(1e-2), fo.ema_of_params(0.9)
    ),
    "lamb": lambda: fo.lamb(1e-2),
    "cautious": lambda: fo.chain(fo.cautious(fo.scale_by_adam()), fo.scale_by_learning_rate(0.1)),
    "skip_if": lambda: fo.skip_if(fo.adamw(1e-2)),
    "accumulate": lambda: fo.accumulate(fo.adamw(1e-2), 3),
    "lookahead": lambda: fo.lookahead(fo.adamw(1e-2), 3),
    "partition": lambda: fo.partition(
        {"a": fo.adamw(1e-2), "b": fo.sgd(0.1)}, lambda name, p: "a" if p.dim() > 1 else "b"
    ),
}


EVERY = [case for case in CASES if not case.tx.takes_examples() and not case.tx.extra_names()]


@pytest.fixture(autouse=True)
def by_bytecode(monkeypatch):
    monkeypatch.delenv("FUNCOPT_KERNELS", raising=False)
    monkeypatch.delenv("FUNCOPT_ENGINE", raising=False)


class Job:
    """An optimizer with gradients that depend on the step, which may get ready or not."""

    def __init__(self, tx, ready, monkeypatch, dtype=torch.float32, **options):
        self.params = [
            nn.Parameter(torch.linspace(-1, 1, torch.Size(s).numel(), dtype=dtype).reshape(s))
            for s in SHAPES
        ]
        self.opt = fo.Optimizer(self.params, tx, **options)
        self.t, self.made, self._ready, self._patch = 0, 0, ready, monkeypatch

    def give(self):
        self.t += 1
        for i, p in enumerate(self.params):
            wave = torch.arange(1.0, p.numel() + 1, dtype=p.dtype).mul(self.t + i).sin()
            p.grad = wave.reshape(p.shape)

    def step(self, *given, **extra):
        with self._patch.context() as patch:
            if not self._ready:
                patch.setattr(_optimizer, "ready_step", lambda *_: None)
            loss = self.opt.step(*given, **extra)
        self.made += self.opt._ready is not None
        return loss

    def steps(self, count=6):
        for _ in range(count):
            self.give()
            self.step()

    def tensors(self):
        states = (x for own in self.opt.state.values() for x in own.values())
        return [x.detach().clone() for x in (*self.params, *states)]


def jobs(tx, monkeypatch, **options):
    """One that gets ready, and one that does not."""
    pair = [Job(tx(), ready, monkeypatch, **options) for ready in (True, False)]
    for job in pair:
        job.steps()
    assert pair[0].made
    assert not pair[1].made
    return pair


def same(a, b):
    return len(a) == len(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("case", EVERY, ids=str)
@pytest.mark.filterwarnings("ignore:`Optimizer`")  # steps that go uphill
def test_every_chain_makes_the_steps_that_it_makes_otherwise(case, monkeypatch):
    """To the bit, and so are its metrics."""
    found = []
    for ready in (True, False):
        with monkeypatch.context() as patch:
            if not ready:
                patch.setattr(_optimizer, "ready_step", lambda *_: None)
            torch.manual_seed(0)
            params = {"w": (3, 4), "b": (5,), "c": (40,)}
            ps = {
                name: nn.Parameter(torch.linspace(-1, 1, torch.Size(s).numel()).reshape(s))
                for name, s in params.items()
            }
            opt, said = fo.Optimizer(ps.items(), case.tx), []
            for t in range(40):
                for p in ps.values():
                    p.grad = (p.detach() + t).sin()
                opt.step()
                said.append(opt.metrics())
        states = (x for p in ps.values() for x in opt.state[p].values())
        kept = [x for x in states if isinstance(x, torch.Tensor)]
        found.append(([*(p.detach() for p in ps.values()), *kept], said))
    (ours, said), (known, expected) = found
    for x, y in zip(ours, known, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
    for one, other in zip(said, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(value, other[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("tx", CHAINS.values(), ids=CHAINS)
def test_steps_are_those_of_the_usual_way(tx, monkeypatch):
    check_steps(*jobs(tx, monkeypatch))


def test_so_are_those_of_machine_code_for_a_chain(monkeypatch):
    check_steps(*jobs(CHAINS["clip, average"], monkeypatch, engine="compiled"))


def check_steps(one, other):
    for job in (one, other):
        job.steps()
    assert same(one.tensors(), other.tensors())
    found, expected = one.opt.metrics(), other.opt.metrics()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_in_other_dtypes(dtype, monkeypatch):
    one, other = jobs(CHAINS["clip, average"], monkeypatch, dtype=dtype)
    assert same(one.tensors(), other.tensors())


@pytest.mark.parametrize("name", ["skip_if", "accumulate", "lookahead", "nadam"])
def test_what_they_decide_by_is_read(name, monkeypatch):
    """Memory that is written by others, and gradients that are not finite."""
    pair = jobs(CHAINS[name], monkeypatch)
    for job in pair:
        job.steps(4)
        job.give()
        job.params[1].grad[2] = torch.inf if name == "skip_if" else 7.0
        job.step()
        job.steps(3)
        for own in job.opt.state.values():
            for key in own.keys() & {"micro_step", "inner_step", "inner_updates", "mu_product"}:
                own[key].fill_(2 if key != "mu_product" else 0.3)
        job.steps(5)
        for own in job.opt.state.values():
            for key in own.keys() & {"skipped", "inner_updates", "mu_product"}:
                own[key] = own[key] * 0.5 if own[key].is_floating_point() else own[key] + 1
        job.steps(5)
    assert pair[0].made > 5
    assert same(*(job.tensors() for job in pair))
    found, expected = (job.opt.metrics() for job in pair)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in found)


def test_memory_of_one_parameter_that_is_written_is_its_own(monkeypatch):
    pair = jobs(CHAINS["nadam"], monkeypatch)
    for job in pair:
        own(job, 2)["mu_product"].fill_(0.3)
        job.steps(3)
    assert same(*(job.tensors() for job in pair))


def without_a_gradient(job):
    job.give()
    job.params[1].grad = None
    job.step()


def with_transposed_gradients(job):
    job.give()
    job.params[0].grad = job.params[0].grad.t().contiguous().t()
    job.step()


def other_data(job):
    for p in job.params:
        p.data = p.data + 1.0


def transposed(job):
    with torch.no_grad():
        job.params[0].t_()


def shorter(job):
    """The same tensor with another shape; its gradient has it too."""
    job.params[1].data = job.params[1].data.reshape(2, 2)
    for key, x in job.opt.state[job.params[1]].items():
        if x.dim():
            job.opt.state[job.params[1]][key] = x.reshape(2, 2)


def own(job, i=1):
    return job.opt.state[job.params[i]]


def another_slot(job):
    own(job)["exp_avg"] = torch.full((4,), 0.5)


def slots_in_other_places(job):
    own(job)["exp_avg"].data = torch.full((4,), 0.5)


def wider_slots(job):
    own(job)["exp_avg"] = own(job)["exp_avg"].double()


def another_dict(job):
    job.opt.state[job.params[1]] = {k: x + 1.0 for k, x in own(job).items()}


def in_another_order(job):
    kept = own(job)
    kept["exp_avg"], kept["exp_avg_sq"] = kept["exp_avg_sq"].abs(), kept["exp_avg"].abs()


def another_key(job):
    own(job)["note"] = torch.ones(2)


def another_clock(job):
    own(job)["step"] = torch.tensor(100.0)


def a_clock_that_is_set(job):
    own(job)["step"].fill_(100.0)


def a_clock_elsewhere(job):
    for p in job.params:
        job.opt.state[p]["step"].data = torch.tensor(50.0)


def no_state(job):
    job.opt.state.pop(job.params[1])


def loaded(job):
    job.opt.load_state_dict(job.opt.state_dict())


def copied(job):
    job.params, job.opt = copy.deepcopy((job.params, job.opt))


def another_state(job):
    job.opt.state = copy.copy(job.opt.state)
    job.opt.state[job.params[0]] = {k: x * 2 for k, x in own(job, 0).items()}


def other_groups(job):
    job.opt.param_groups = [{**group, "lr": 0.03} for group in job.opt.param_groups]


def another_group(job):
    job.params.append(nn.Parameter(torch.ones(3)))
    job.opt.add_param_group({"params": [job.params[-1]], "lr": 0.5})


def fewer_params(job):
    del job.opt.param_groups[0]["params"][1]


class Items(list):
    """What is a list, but of another type."""


def groups_in_a_tuple(job):
    job.opt.param_groups = (*job.opt.param_groups,)


def of_another_type(kind):
    def change(job):
        """Which loses a parameter, and nothing else, once a step is ready."""
        group = job.opt.param_groups[0]
        group["params"] = kind(group["params"])
        job.steps(8)
        del group["params"][1]

    return change


def another_param(job):
    job.params[1] = job.opt.param_groups[0]["params"][1] = nn.Parameter(torch.ones(4))


def value(key, x):
    def change(job):
        job.opt.param_groups[0][key] = x

    return change


def back_and_forth(job):
    for lr in (0.5, 0.25, 0.125, 0.125, 0.125):
        job.opt.param_groups[0]["lr"] = lr
        job.steps(1)


def a_tensor_as_a_value(job):
    job.opt.param_groups[0]["lr"] = rate = torch.tensor(0.5)
    for _ in range(5):
        job.steps(1)
        rate.mul_(0.5)


def a_list_as_a_value(job):
    job.opt.param_groups[0]["betas"] = betas = [0.9, 0.99]
    for _ in range(5):
        job.steps(1)
        betas[0] *= 0.5


def shared_memory(job):
    for p in job.params:
        p.share_memory_()
        for x in job.opt.state[p].values():
            x.share_memory_()


def frozen(job):
    job.params[1].requires_grad_(False)


def dropped(job):
    job.opt.drop(job.params[3])
    job.params.pop()


def in_float64(job):
    for p in job.params:
        p.grad = None
        p.data = p.data.double()


CHANGES = {
    change.__name__: change
    for change in (
        *(without_a_gradient, with_transposed_gradients, other_data, transposed, shorter),
        *(another_slot, slots_in_other_places, wider_slots, another_dict, in_another_order),
        *(another_key, another_clock, a_clock_that_is_set, a_clock_elsewhere, no_state, loaded),
        *(copied, another_state, other_groups, another_group, fewer_params, another_param),
        *(back_and_forth, a_tensor_as_a_value, a_list_as_a_value, shared_memory, frozen),
        *(dropped, in_float64),
    )
} | {
    "lr": value("lr", 0.5),
    "no decay": value("weight_decay", 0.0),
    "betas": value("betas", (0.5, 0.6)),
    "maximize": value("maximize", True),
    "a note in a group": value("note", 1),
    "groups in a tuple": groups_in_a_tuple,
    "parameters in a list of another type": of_another_type(Items),
    "parameters in no list": of_another_type(collections.UserList),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_differs_is_seen(change, monkeypatch):
    pair = jobs(CHAINS["adamw"], monkeypatch)
    for job in pair:
        change(job)
        job.steps(8)
    one, other = pair
    assert same(one.tensors(), other.tensors())


def test_steps_that_other_ranks_wait_for_are_made_in_the_usual_way(monkeypatch):
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        job = Job(CHAINS["clip, average"](), True, monkeypatch)
        job.opt.measure_group = dist.group.WORLD
        job.steps(8)
        assert not job.made
        job.opt.measure_group = None
        job.steps(8)
        assert job.made
        job.opt.measure_group = dist.group.WORLD
        job.steps(1)
        assert job.opt._ready is None
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("seed", range(20))
def test_changes_one_after_another_are_seen(seed, monkeypatch):
    """With steps in between, after which a step is ready again or not; errors are the same too."""
    draw = random.Random(seed)
    changes = [(draw.choice(list(CHANGES.values())), draw.choice((1, 2, 5))) for _ in range(6)]
    said = []
    pair = jobs(CHAINS[draw.choice(("adamw", "clip, average", "lookahead"))], monkeypatch)
    for job in pair:
        said.append([])
        for change, count in changes:
            try:
                change(job)
                job.steps(count)
            except Exception as error:
                said[-1].append((change, str(error)))
    assert said[0] == said[1]
    assert same(*(job.tensors() for job in pair))


def test_after_other_values_few_scalars_are_read_again(monkeypatch):
    """When some steps had the same: it takes longer than one to find out which change."""
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    one.opt.param_groups[0]["lr"] = 0.2
    for _ in range(AGAIN):
        one.steps(1)
        assert not one.opt._ready._kernels.is_settled
    one.steps(1)
    assert one.opt._ready._kernels.is_settled


def test_a_plan_goes_on_where_a_step_is_made_in_the_usual_way(monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    plan = one.opt._plan
    with pytest.raises(fo.errors.ExtraArgumentError):
        one.step(value=1.0)
    assert one.opt._plan is plan


CLOCKS_IN_A_MAP = """
import mmap
import torch
import funcopt as fo

params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
opt = fo.Optimizer(params, fo.adamw(1e-2))

def step():
    for p in params:
        p.grad = torch.ones(3)
    opt.step()

step()
memory = mmap.mmap(-1, 4096)
for i, p in enumerate(params):
    clock = torch.frombuffer(memory, dtype=torch.float32, count=1, offset=4 * i).squeeze_(0)
    opt.state[p]["step"] = clock.fill_(1.0)
del clock
for _ in range(6):
    step()
assert opt._ready is not None
for p in params:
    opt.state[p]["step"].data = torch.tensor(50.0)
memory.close()
step()
assert {float(opt.state[p]["step"]) for p in params} == {51.0}
"""


def test_memory_that_clocks_have_left_is_not_read():
    """It is given back to the system here, where reading it ends the process."""
    command = [sys.executable, "-c", CLOCKS_IN_A_MAP]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


def test_of_whose_state_no_other_is_taken(monkeypatch):
    """Two optimizers of the same parameters and groups."""
    pair = jobs(CHAINS["adamw"], monkeypatch)
    for job in pair:
        state, job.opt.state = job.opt.state, collections.defaultdict(dict)
        job.steps(1)
        job.opt.state = state
        job.steps(4)
    assert same(*(job.tensors() for job in pair))


REFUSED = {
    "an argument": (lambda job: job.step(value=1.0), fo.errors.ExtraArgumentError),
    "a value": (
        lambda job: (value("lr", -1.0)(job), job.step()),
        fo.errors.HyperparameterError,
    ),
    "in eval mode": (lambda job: (job.opt.eval(), job.step()), fo.errors.ModeError),
}


@pytest.mark.parametrize(("refused", "error"), REFUSED.values(), ids=REFUSED)
def test_errors_change_nothing(refused, error, monkeypatch):
    one, _ = jobs(CHAINS["clip, average"], monkeypatch)
    one.give()
    with pytest.raises(error):
        refused(one)
    one.opt.train()
    one.opt.param_groups[0]["lr"] = 0.01
    before = one.tensors()
    _, other = jobs(CHAINS["clip, average"], monkeypatch)
    assert same(before, other.tensors())
    for job in (one, other):
        job.t = 6
        job.steps()
    assert same(one.tensors(), other.tensors())


def test_keys_are_compared_too(monkeypatch):
    """Of dicts that hold the same values in the same order."""
    for job in jobs(CHAINS["adamw"], monkeypatch):
        group = job.opt.param_groups[0]
        group["lr"] = group.pop("lr")  # the last one
        job.steps()
        group["mine"] = group.pop("lr")
        job.give()
        with pytest.raises(KeyError, match="lr"):
            job.step()


def test_sparse_gradients_are_refused(monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    before = one.tensors()
    one.give()
    one.params[1].grad = one.params[1].grad.to_sparse()
    with pytest.raises(fo.errors.SparseGradientError):
        one.step()
    assert same(before, one.tensors())


def test_an_error_of_a_rule_changes_nothing(monkeypatch):
    class fragile(fo.TensorRule):
        factor: fo.typing.Scalar = 1.0
        elementwise = True

        def prepare(self, step, memory):
            if step == 9:
                raise ValueError("nine")
            return {"by": 0.1 * self.factor * step}

        def update_tensor(self, g, slots, p, s):
            return s.by * g, slots

    tx = fo.chain(fragile(), fo.scale_by_learning_rate(0.1))
    one, other = jobs(lambda: tx, monkeypatch)
    for job in (one, other):
        job.steps(2)
        before = job.tensors()
        job.give()
        with pytest.raises(ValueError, match="nine"):
            job.step()
        assert same(before, job.tensors())
    assert same(one.tensors(), other.tensors())


def test_a_guard_on_what_is_prepared_fails(monkeypatch):
    """Of what a rule branches on, once it is another."""

    class warmed(fo.TensorRule):
        elementwise = True

        def prepare(self, step, memory):
            return {"late": max(0.0, step - 9.0)}

        def update_tensor(self, g, slots, p, s):
            return (g if s.late > 0 else 0.1 * g) + s.late, slots

    tx = fo.chain(warmed(), fo.scale_by_learning_rate(0.1))
    one, other = jobs(lambda: tx, monkeypatch)
    for job in (one, other):
        job.steps(8)
    assert same(one.tensors(), other.tensors())


def test_steps_are_counted_beyond_2_24(monkeypatch):
    pair = [Job(fo.adamw(), ready, monkeypatch) for ready in (True, False)]
    for job in pair:
        job.steps(1)
        for p in job.params:
            job.opt.state[p]["step"].fill_(2**24 - 6)
        job.steps(10)
        assert {float(job.opt.state[p]["step"]) for p in job.params} == {2**24 + 4}
    assert pair[0].made
    assert same(*(job.tensors() for job in pair))


def test_hooks_and_closures_are_called(monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    said, made = [], one.made
    one.opt.register_step_pre_hook(lambda *_: said.append("before"))
    one.opt.register_step_post_hook(lambda *_: said.append("after"))

    def closure():
        said.append("loss")
        one.give()
        return 3.0

    for _ in range(3):
        assert one.step(closure) == 3.0
    assert said == 3 * ["before", "loss", "after"]
    assert one.made == made + 3


def test_a_closure_may_change_anything(monkeypatch):
    pair = jobs(CHAINS["adamw"], monkeypatch)
    for job in pair:

        def closure(job=job):
            job.give()
            job.opt.param_groups[0]["lr"] = 0.3
            job.params[1].grad = None

        job.step(closure)
    assert same(*(job.tensors() for job in pair))


def test_a_scaler_is_heard(monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    one.give()
    before = one.tensors()[: len(SHAPES)]
    one.opt.found_inf, one.opt.grad_scale = torch.tensor(1.0), torch.tensor(2.0)
    one.step()
    assert same(before, one.tensors()[: len(SHAPES)])
    del one.opt.found_inf, one.opt.grad_scale


def test_steps_in_backward_come_first(monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    before = one.params[0].detach().clone()
    with one.opt.step_in_backward():
        one.params[0].sum().backward()
        assert not torch.equal(before, one.params[0])
        assert one.params[0].grad is None
        after = one.params[0].detach().clone()
        one.opt.zero_grad()
        one.step()
        assert torch.equal(after, one.params[0])


def test_gradients_that_are_left_there_are_dropped(monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    with one.opt.step_in_backward():
        one.give()
        one.step()
    assert all(p.grad is None for p in one.params)


def test_no_gradient_is_kept_and_no_reference_lost(monkeypatch):
    one, _ = jobs(CHAINS["clip, average"], monkeypatch)
    gc.collect()  # what was made to get ready
    counts = [sys.getrefcount(x) for x in (one.params[0], None, True)]
    for _ in range(1000):
        one.opt.step()
    assert one.opt._ready is not None
    after = [sys.getrefcount(x) for x in (one.params[0], None, True)]
    assert all(abs(a - b) < 100 for a, b in zip(counts, after, strict=True))
    gone = [weakref.ref(p.grad) for p in one.params]
    one.opt.zero_grad()
    assert not any(x() is not None for x in gone)
    params, opt = [weakref.ref(p) for p in one.params], weakref.ref(one.opt)
    del one, _
    gc.collect()
    assert opt() is None
    assert not any(x() is not None for x in params)


@pytest.mark.parametrize("change", [without_a_gradient, with_transposed_gradients])
def test_no_gradient_is_kept_where_something_differs(change, monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    change(one)
    gone = [weakref.ref(p.grad) for p in one.params if p.grad is not None]
    one.opt.zero_grad()
    assert not any(x() is not None for x in gone)


def test_of_a_parameter_without_a_gradient_no_reference_is_lost(monkeypatch):
    one = Job(CHAINS["adamw"](), True, monkeypatch)
    one.give()
    one.params[1].grad = None
    for _ in range(5):
        one.opt.step()
    assert one.opt._ready is not None
    count = sys.getrefcount(None)
    for _ in range(1000):
        one.opt.step()
    assert abs(sys.getrefcount(None) - count) < 100


def test_parameters_are_marked_as_changed(monkeypatch):
    one, _ = jobs(CHAINS["adamw"], monkeypatch)
    before = [p._version for p in one.params]
    one.steps(1)
    assert all(p._version > v for p, v in zip(one.params, before, strict=True))
    assert all(x._version == 0 or x.dim() == 0 for x in own(one).values())


def test_autocast_forgets_what_parameters_were(monkeypatch):
    one, _ = jobs(CHAINS["sgd"], monkeypatch)
    x = torch.ones(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        before = x @ one.params[0]
        one.steps(1)
        after = x @ one.params[0]
    assert not torch.equal(before, after)


def test_classes_of_torch_get_ready():
    for cls in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.NAdam):
        p = nn.Parameter(torch.ones(3))
        opt = cls([p], lr=0.1)
        for _ in range(5):
            p.grad = torch.ones(3)
            opt.step()
        assert opt._ready is not None, cls


def test_how_many_threads_a_large_step_is_worth_is_asked_each_time(monkeypatch):
    asked = []

    def threads_for(entries, work):
        asked.append(entries)
        return 1 + len(asked) % 2

    monkeypatch.setattr(fo.engine._threads, "threads_for", threads_for)
    pair = []
    for ready in (True, False):
        job = Job(CHAINS["clip, average"](), ready, monkeypatch)
        job.params = [nn.Parameter(torch.linspace(-1, 1, 20000)) for _ in range(2)]
        job.opt = fo.Optimizer(job.params, job.opt.tx)
        job.steps()
        before = len(asked)
        job.steps(2)
        assert len(asked) == before + 4  # two passes
        pair.append(job)
    assert pair[0].made
    assert same(*(job.tensors() for job in pair))
