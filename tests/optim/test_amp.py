"""Steps that a `GradScaler` does not wait for: they read on the device what it has found."""

import importlib.util
import math
from collections import Counter

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.optim import _amp

from ..engine.as_on_cuda import AsOnCuda
from ..engine.two_devices import Apart, on_host, spread

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from funcopt.engine import _kernels
from funcopt.engine.triton import _launch

from ..engine.by_triton import by_triton

SHAPES = {"a": (3, 16), "b": (7,), "c": ()}
SPOILED = {0: math.inf, 3: math.nan, 4: -math.inf}
"""The steps that are left out: the first one, which begins the state, and two in a row."""

CHAINS = {
    "AdamW": fo.adamw(1e-2),
    "SGD": fo.sgd(1e-2, momentum=0.9, dampening=0.1),
    "Lion": fo.lion(1e-2),
    "NAdam": fo.nadam(1e-2),
    "LAMB": fo.lamb(1e-2),
    "Muon": fo.muon(1e-2),
    "SOAP": fo.soap(1e-2),
    "Adafactor": fo.adafactor(1e-2),
    "clip, AdamW, EMA": fo.chain(
        fo.clip_by_global_norm(0.5), fo.adamw(1e-2), fo.ema_of_params(0.9)
    ),
    "schedule": fo.adamw(fo.linear_schedule(1e-2, 0.0, 6)),
    "accumulate": fo.accumulate(fo.adamw(1e-2), 2),
    "lookahead": fo.lookahead(fo.adamw(1e-2), 2),
    "Schedule-Free": fo.schedule_free_adamw(1e-2),
    "skip_if": fo.skip_if(fo.sgd(1e-2, momentum=0.9), fo.norm_outlier(warmup=1)),
    "cautious, Prodigy": fo.cautious(fo.prodigy(1.0)),
}
every_chain = pytest.mark.parametrize("tx", CHAINS.values(), ids=CHAINS)


@pytest.fixture
def as_device(monkeypatch):
    """The CPU is a device whose kernels are interpreted."""
    with by_triton(monkeypatch):
        yield


class Training:
    """A few parameters, and a scaler."""

    def __init__(self, tx, dtype=torch.float32, engine="auto", **more):
        torch.manual_seed(0)
        self.ps = {k: torch.nn.Parameter(torch.randn(s, dtype=dtype)) for k, s in SHAPES.items()}
        self.opt = fo.Optimizer(self.ps.items(), tx, capturable=True, engine=engine)
        self.scaler = torch.amp.GradScaler("cpu", **{"init_scale": 2.0**10, **more})

    def step(self, spoiled=None, times=1.0):
        self.opt.zero_grad()
        loss = times * sum((p.sin() * p).sum() for p in self.ps.values())
        self.scaler.scale(loss).backward()
        if spoiled is not None:
            self.ps["a"].grad[1, 5] = spoiled
        self.scaler.step(self.opt)
        self.scaler.update()

    def train(self):
        for t in range(8):
            self.step(SPOILED.get(t))
        return self

    def tensors(self):
        """All that a step may change, exactly."""
        state = (x for p in self.ps.values() for x in self.opt.state[p].values())
        return [x.detach().clone() for x in (*self.ps.values(), *state)]


@pytest.fixture
def ordinary(monkeypatch):
    """A training whose scaler unscales, looks, and leaves out the call of `step`."""

    def train(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(_amp.ScalableOptimizer, "_step_supports_amp_scaling", False)
            return Training(*args, **kwargs).train()

    return train


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for x, y in zip(ours, theirs, strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)
        assert torch.equal(x.signbit(), y.signbit())  # of zeros, too


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@every_chain
def test_numbers_are_those_of_the_ordinary_way_exactly(tx, dtype, as_device, ordinary):
    """Contract 48: in whole trainings, with steps that are left out."""
    made = Training(tx, dtype).train()
    assert made.opt._step_supports_amp_scaling
    assert_same(made.tensors(), ordinary(tx, dtype).tensors())


@pytest.mark.parametrize("scale", [1000.0, 2.0**20])
def test_the_inverse_of_the_scale_is_rounded_as_by_the_scaler(scale, as_device, ordinary):
    """In float32, that is; in float64 that of the scaler is float32 too, and ours is exact."""
    made = Training(CHAINS["clip, AdamW, EMA"], init_scale=scale).train()
    theirs = ordinary(CHAINS["clip, AdamW, EMA"], init_scale=scale)
    assert_same(made.tensors(), theirs.tensors())


@every_chain
def test_operation_by_operation_they_are_too(tx, as_device, ordinary):
    made = Training(tx, engine="eager").train()
    assert made.opt.engine == "eager"
    assert_same(made.tensors(), ordinary(tx, engine="eager").tensors())


@pytest.mark.parametrize("engine", ["auto", "eager"])
@every_chain
def test_what_is_left_out_changes_no_bit(tx, engine, as_device):
    """Contract 48: neither of parameters, nor of slots, counts and what schedules see."""
    made = Training(tx, engine=engine)
    for t in range(8):
        if t == 3:
            made.ps["a"].data[0] = -0.0  # to which nothing but minus zero can be added
        if made.opt.state:
            before, shown = made.tensors(), made.opt.param_groups[0].get("lr")
        else:
            before, shown = [p.detach().clone() for p in made.ps.values()], None
        made.step(SPOILED.get(t))
        if t in SPOILED:
            assert_same(made.tensors()[: len(before)], before)
            assert shown in (None, made.opt.param_groups[0].get("lr"))
            assert {float(own["step"]) for own in made.opt.state.values()} == {
                max(t - 1, 0) - (t == 4)
            }


@every_chain
def test_kernels_of_one_step_make_all_of_them(tx, as_device, monkeypatch):
    from funcopt.engine import _traced_backend

    made, traced, known = Training(tx), [], _traced_backend.Tracer
    monkeypatch.setattr(_traced_backend, "Tracer", lambda *a: traced.append(1) or known(*a))
    for _ in range(4):
        made.step()
    assert made.opt.engine == "fused"
    count = len(traced)
    for t in range(6):
        made.step(math.inf if t % 2 else None)
    assert len(traced) == count


def as_flags_of_a_device(monkeypatch):
    """Flags are not read, although they are on the CPU."""
    from funcopt._core import select, stage

    for module in (select, stage):
        monkeypatch.setattr(module, "number", lambda x: x)


@pytest.mark.parametrize("inner", [fo.adafactor(1e-2), fo.soap(1e-2), fo.nadam(1e-2)], ids=str)
def test_a_step_that_is_left_out_twice(inner, as_device, monkeypatch):
    """By the scaler, and by a stage of the chain."""
    as_flags_of_a_device(monkeypatch)
    tx = fo.skip_if(inner, fo.norm_outlier(warmup=1))
    made, eager = (Training(tx, torch.float64, engine) for engine in ("fused", "eager"))
    for t in range(8):
        for one in (made, eager):
            one.step(SPOILED.get(t), times=1e3 if t == 6 else 1.0)
        for x, y in zip(made.tensors(), eager.tensors(), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-14)
    assert (made.opt.engine, eager.opt.engine) == ("fused", "eager")
    own = made.opt.state[made.ps["a"]]
    assert own["step"] == 5
    assert 0 < own["skipped"] < 5
    assert own["skipped"] + own["inner_updates"] == 5


# What is claimed.


def parameter(device="cpu"):
    return torch.nn.Parameter(torch.ones(3, device=device))


def claims(opt):
    """Before the first step, and after some."""
    found = [opt._step_supports_amp_scaling]
    for _ in range(3):
        for group in opt.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)
        opt.step()
        found.append(opt._step_supports_amp_scaling)
    assert len(set(found[1:])) == 1
    assert found[0] in (found[1], False)  # a first step may have to make what goes to the device
    return found[1]


@every_chain
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_support_is_claimed_where_all_counts_are_on_a_device(tx, device):
    assert claims(fo.Optimizer([parameter(device)], tx, capturable=True)) is (device == "meta")
    assert not claims(fo.Optimizer([parameter(device)], tx))


def test_support_is_claimed_where_everything_is_on_a_device():
    on_device = {"params": [parameter("meta")], "capturable": True}
    assert claims(optim.AdamW([on_device, {**on_device, "params": [parameter("meta")]}]))
    assert not claims(optim.AdamW([on_device, {"params": [parameter("meta")]}]))
    assert not claims(optim.AdamW([on_device, {"params": [parameter()], "capturable": True}]))


def test_support_is_not_claimed_for_what_a_scaler_cannot_do(tmp_path):
    def optimizer(tx=CHAINS["AdamW"], **more):
        return fo.Optimizer([parameter("meta")], tx, capturable=True, **more)

    assert not fo.Optimizer(
        [parameter("meta").clone()], CHAINS["SGD"], capturable=True, differentiable=True
    )._step_supports_amp_scaling
    assert not optimizer(fo.sam(CHAINS["SGD"]))._step_supports_amp_scaling
    assert not optimizer(fo.dpsgd(0.1, 1.0, 1.0, batch_size=2))._step_supports_amp_scaling
    assert not optimizer(measure_group=object())._step_supports_amp_scaling
    opt = optimizer()
    log = opt.log_to(tmp_path / "log.csv")
    assert not opt._step_supports_amp_scaling
    log.close()
    assert opt._step_supports_amp_scaling


def test_support_is_claimed_after_a_checkpoint_was_loaded():
    opts = [
        fo.Optimizer([parameter("meta")], CHAINS["schedule"], capturable=c) for c in (True, False)
    ]
    for opt in opts:
        opt.param_groups[0]["params"][0].grad = torch.ones(3, device="meta")
        opt.step()
    other = fo.Optimizer([parameter("meta")], CHAINS["schedule"], capturable=True)
    other.load_state_dict(opts[0].state_dict())
    assert other._step_supports_amp_scaling
    opts[1].param_groups[0]["capturable"] = True  # its counts are where they are
    assert not opts[1]._step_supports_amp_scaling


# The step.


@every_chain
def test_nothing_is_waited_for(tx):
    """On "meta", with CUDA's rules."""
    ps = [parameter("meta") for _ in range(3)]
    opt = fo.Optimizer(ps, tx, capturable=True)
    with AsOnCuda() as mode:
        for t in range(4):
            for p in ps:
                p.grad = torch.empty_like(p)
            opt.found_inf, opt.grad_scale = (torch.empty((), device="meta") for _ in range(2))
            assert t == 0 or opt._step_supports_amp_scaling
            opt.step()
            opt.metrics()
    assert not mode.waits
    assert len(opt._plan.firsts) == 1


@pytest.fixture
def launched(monkeypatch):
    found = []
    monkeypatch.setenv("FUNCOPT_KERNELS", "triton")
    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setattr(_launch, "_run", lambda call, table, device: found.append(call))
    return found


def step_on_meta(opt, ps, scaled):
    for p in ps:
        p.grad = torch.empty_like(p)
    if scaled:
        opt.found_inf, opt.grad_scale = (torch.empty((), device="meta") for _ in range(2))
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        opt.step()
    return Counter({e.key: e.count for e in profile.key_averages() if e.key.startswith("aten::")})


@pytest.mark.parametrize(
    ("name", "operations"),
    [("AdamW", 2), ("Lion", 2), ("clip, AdamW, EMA", 2), ("NAdam", 4), ("LAMB", 2)],
)
def test_there_are_no_more_kernels_and_few_operations_on_scalars(name, operations, launched):
    """They make of the flag what counts go on by, and what becomes of shared scalars."""
    kernels, made = [], []
    for scaled in (False, True):
        ps = [parameter("meta") for _ in range(50)]
        opt = fo.Optimizer(ps, CHAINS[name], capturable=True)
        for _ in range(3):
            launched.clear()
            counts = step_on_meta(opt, ps, scaled)
        assert opt.engine == "fused"
        kernels.append(len(launched))
        made.append(counts)
    assert kernels[0] == kernels[1] <= 5
    more = made[1] - made[0]
    more = {
        k: n
        for k, n in more.items()
        if k.split("::")[1] in ("eq", "ne", "_to_copy", "where", "add", "_foreach_add_")
    }
    assert sum(more.values()) == operations, made[1] - made[0]


@pytest.mark.parametrize("engine", ["torch", "fused"])
def test_gradients_stay_as_they_are(engine, as_device, monkeypatch):
    """Kernels of torch would overwrite them."""
    from funcopt.engine import _torch_backend

    called, known = [], _torch_backend._match
    monkeypatch.setattr(_torch_backend, "_match", lambda tx: called.append(known(tx)) or called[-1])
    made = Training(CHAINS["AdamW"], engine=engine)
    made.step()
    made.opt.step()
    assert any(called) is (engine == "torch"), "without a scaler they are taken"
    called.clear()
    grad = made.ps["a"].grad.clone()
    made.opt.found_inf, made.opt.grad_scale = torch.tensor(0.0), torch.tensor(1024.0)
    made.opt.step()
    assert torch.equal(made.ps["a"].grad, grad)
    assert not any(called)
    assert made.opt.engine != "torch"


def test_gradients_may_be_unscaled_before(as_device):
    """Then there is no scale, but there may be something to leave out."""
    found = []
    for before in (False, True):
        made = Training(CHAINS["clip, AdamW, EMA"])
        if before:
            step = made.scaler.step
            made.scaler.step = lambda opt, s=made.scaler, step=step: (s.unscale_(opt), step(opt))
        found.append(made.train().tensors())
    assert_same(*found)


@pytest.mark.parametrize("odd", [0, 1])
def test_gradients_may_be_unscaled_before_in_some_steps(odd, as_device):
    """What was traced for a scale is not for none, or the other way round."""
    made, always = Training(CHAINS["AdamW"]), Training(CHAINS["AdamW"]).train()
    step = made.scaler.step

    def sometimes(opt):
        made.t = getattr(made, "t", -1) + 1
        if made.t % 2 == odd:
            made.scaler.unscale_(opt)
        step(opt)

    made.scaler.step = sometimes
    assert_same(made.train().tensors(), always.tensors())


@pytest.mark.parametrize("tx", [CHAINS["AdamW"], CHAINS["NAdam"]], ids=str)
def test_a_parameter_that_joins_late(tx, as_device, ordinary, monkeypatch):
    """And one that misses a step, which is left out for the others."""

    def step(self, spoiled=None, known=Training.step):
        self.t = getattr(self, "t", -1) + 1
        missing = {0: "b", 1: "b", 4: "c"}.get(self.t)
        if missing:
            self.ps[missing].requires_grad_(False)
        known(self, spoiled)
        if missing:
            self.ps[missing].requires_grad_()

    monkeypatch.setattr(Training, "step", step)
    made = Training(tx).train()
    theirs = ordinary(tx)
    for name, p in made.ps.items():
        assert torch.equal(p, theirs.ps[name])
        known = theirs.opt.state[theirs.ps[name]]
        assert all(torch.equal(x, known[key]) for key, x in made.opt.state[p].items())
    assert [float(made.opt.state[p]["step"]) for p in made.ps.values()] == [5, 4, 5]


def test_counts_that_were_equal_are_known_to_be_and_no_others():
    """A step that is left out for one of two does not make it catch up with the other."""
    ps = [parameter("meta") for _ in range(4)]
    opt = fo.Optimizer(ps, CHAINS["AdamW"], capturable=True)

    def step(*which, scaled=False):
        for i, p in enumerate(ps):
            p.grad = torch.empty_like(p) if i in which else None
        if scaled:
            opt.found_inf, opt.grad_scale = torch.empty((), device="meta"), None
        opt.step()
        if scaled:
            del opt.found_inf, opt.grad_scale
        return opt._plan and len(opt._plan.firsts)

    step(0, 1, 2, 3)
    step(0, 1)
    assert step(0, 1, 2, 3) == 2
    assert step(0, 1, 2, 3, scaled=True) == 2
    step(2, 3, scaled=True)  # one update behind, or none
    assert step(0, 1, 2, 3) == 2
    step(0, 2, scaled=True)
    assert step(0, 1, 2, 3) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_parameters(dtype, as_device, ordinary):
    """The scale is a power of two, so gradients are the same, but for those that are subnormal."""
    if dtype is torch.float16:  # which a scaler refuses to unscale
        made = Training(CHAINS["clip, AdamW, EMA"], dtype, init_scale=4.0).train()
        assert all(p.isfinite().all() for p in made.ps.values())
        return
    made = Training(CHAINS["clip, AdamW, EMA"], dtype).train()
    assert_same(made.tensors(), ordinary(CHAINS["clip, AdamW, EMA"], dtype).tensors())


@pytest.mark.parametrize("engine", ["fused", "eager"])
def test_metrics_of_a_step_that_is_left_out_are_no_numbers(engine, as_device):
    made = Training(CHAINS["clip, AdamW, EMA"], engine=engine)
    made.step()
    before = made.opt.metrics()
    made.step(math.nan)
    after = made.opt.metrics()
    assert before.keys() == after.keys() >= {"grad_norm", "clip_factor"}
    assert not any(x.isnan() for x in before.values())
    assert all(x.isnan() for x in after.values())
    made.step()
    assert not any(x.isnan() for x in made.opt.metrics().values())


def test_a_log_counts_the_updates(as_device, tmp_path):
    """So the scaler waits, and calls `step` for updates alone."""
    made = Training(CHAINS["AdamW"])
    rows = []
    made.opt.log_to(lambda numbers, step: rows.append(step))
    made.train()
    made.opt.metrics()
    assert rows == [1, 2, 3, 4, 5]


def test_without_any_gradient_nothing_happens(as_device):
    made = Training(CHAINS["AdamW"])
    made.step()
    made.opt.zero_grad()
    before = made.tensors()
    made.scaler.step(made.opt)
    assert_same(made.tensors(), before)


@pytest.mark.parametrize("engine", ["auto", "eager"])
@every_chain
def test_on_two_devices_nothing_is_waited_for_and_numbers_are_the_same(tx, engine):
    """Devices with values, which the scaler has found on the first of them."""
    here = {k: torch.linspace(-1, 2, 6).double() + i for i, k in enumerate("abc")}
    far = spread(here, ("lazy:0", "lazy:1"))
    plain, ours = ({k: torch.nn.Parameter(x.clone()) for k, x in xs.items()} for xs in (here, far))
    opts = [fo.Optimizer(ps.items(), tx, engine="eager") for ps in (plain,)]
    opts.append(fo.Optimizer(ours.items(), tx, capturable=True, engine=engine))
    for t in range(7):
        for k, p in plain.items():
            p.grad = p.detach().sin() + t
            g = p.grad * 8.0
            g[2] = SPOILED.get(t, g[2])
            ours[k].grad = g.to(ours[k].device)
        if t not in SPOILED:
            opts[0].step()
        opts[1].found_inf = torch.tensor(float(t in SPOILED)).to("lazy:0")
        opts[1].grad_scale = torch.tensor(8.0).to("lazy:0")
        with Apart() as mode:
            opts[1].step()
        assert t == 0 or not mode.waits
    assert opts[1].engine in ("foreach", "eager")
    for k, p in plain.items():
        torch.testing.assert_close(on_host(ours[k].detach()), p.detach(), rtol=1e-12, atol=1e-14)
        theirs = opts[0].state[p]
        for key, x in opts[1].state[ours[k]].items():
            assert x.device == ours[k].device or key not in ("step", "updates")
            torch.testing.assert_close(on_host(x), theirs[key], rtol=1e-12, atol=1e-14)
