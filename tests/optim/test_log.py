"""Norms that are recorded, and metrics that are written as the optimizer steps."""

import copy
import csv
import gc
import pathlib
import pickle
import weakref

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import ArgumentError, HyperparameterError

from ..contract.common import backward, gap, model, train

NORMS = ("grad_norm", "update_norm", "param_norm")


def adamw(net, **more):
    return optim.AdamW(net.named_parameters(), lr=0.01, **more)


def norm(tensors):
    return torch.cat([x.detach().flatten() for x in tensors]).norm()


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# norms


@pytest.mark.parametrize("engine", ["auto", "eager", "foreach"])
def test_norms_are_those_of_gradients_updates_and_parameters(engine):
    net = model()
    opt = adamw(net, engine=engine)
    opt.record_norms()
    for _ in range(3):
        backward(net, opt)
        before = [p.detach().clone() for p in net.parameters()]
        opt.step()
        after = list(net.parameters())
        updates = [p - q for p, q in zip(after, before, strict=True)]
        grads = [p.grad for p in after]
        found, each = opt.metrics(), opt.metrics("layer")
        for name, tensors in zip(NORMS, (grads, updates, after), strict=True):
            torch.testing.assert_close(found[name], norm(tensors), rtol=1e-12, atol=0)
            for (key, _), x in zip(net.named_parameters(), tensors, strict=True):
                one = each[f"{name}/{key}"]
                torch.testing.assert_close(one, x.detach().norm(), rtol=1e-12, atol=0)


def test_norms_of_groups_make_that_of_all():
    net = model()
    opt = optim.AdamW(optim.param_groups_weight_decay(net), lr=0.01, max_grad_norm=0.05)
    opt.record_norms()
    train(net, opt, 1)
    found = opt.metrics("group")
    for name in NORMS:
        parts = torch.stack([found[f"{name}/decay"], found[f"{name}/no_decay"]])
        torch.testing.assert_close(parts.norm(), found[name].double())
        assert parts.min() > 0
    assert "grad_norm" in found
    assert "clip_factor/decay" in found


def test_a_parameter_without_gradient_has_a_norm_of_zero():
    net = model()
    opt = adamw(net)
    opt.record_norms()
    backward(net, opt)
    net[0].weight.grad = None
    opt.step()
    found = opt.metrics("layer")
    assert found["grad_norm/0.weight"] == found["update_norm/0.weight"] == 0
    assert found["param_norm/0.weight"] > 0


def test_they_are_there_in_the_steps_that_were_asked_for():
    net = model()
    opt = adamw(net)
    handle = opt.record_norms(every=2)
    seen = []
    for _ in range(5):
        train(net, opt, 1)
        seen.append("update_norm" in opt.metrics())
    assert seen == [False, True, False, True, False]
    handle.remove()
    train(net, opt, 1)
    assert "update_norm" not in opt.metrics()


def test_to_be_watched_changes_no_step(tmp_path):
    nets = model(), model()
    opts = [adamw(net, max_grad_norm=0.05, ema=0.9, accumulate=2) for net in nets]
    opts[0].log_to(tmp_path / "log.csv", per="layer")
    for net, opt in zip(nets, opts, strict=True):
        train(net, opt, 5)
    assert gap(*nets) == 0.0
    assert opts[0].engine == opts[1].engine


def test_narrow_and_complex_parameters_are_measured_in_full():
    p = torch.nn.Parameter(torch.full((300,), 300.0, dtype=torch.float16))
    q = torch.nn.Parameter(torch.tensor([3 + 4j, 0j]))
    opt = optim.SGD([p, q], lr=0.0)
    opt.record_norms()
    p.grad, q.grad = torch.full_like(p, 100.0), torch.tensor([6 + 8j, 0j])
    opt.step()
    found = opt.metrics("layer")
    assert found["grad_norm/0"].item() == pytest.approx(100 * 300**0.5)
    assert found["grad_norm/1"].item() == pytest.approx(10.0)
    assert found["param_norm/1"].item() == pytest.approx(5.0)


# writers


class Written:
    """What was written, by step."""

    def __init__(self):
        self.said = {}

    def put(self, values, step):
        assert all(type(value) is float for value in values.values())
        assert step not in self.said
        self.said[step] = values


class Scalars(Written):
    """As TensorBoard's writer."""

    def add_scalar(self, tag, scalar_value, global_step=None):
        assert type(scalar_value) is float
        self.said.setdefault(global_step, {})[tag] = scalar_value


class Logger(Written):
    """As the loggers of Lightning, MLflow and Comet."""

    def log_metrics(self, metrics, step=None):
        self.put(metrics, step)


class Run(Written):
    """As a run of Weights & Biases."""

    def log(self, data, step=None, commit=None):
        self.put(data, step)


class Fabric(Written):
    def log(self, name, value, step=None):
        raise AssertionError("one by one")

    def log_dict(self, metrics, step=None):
        self.put(metrics, step)


class Function(Written):
    def __call__(self, values, step):
        self.put(values, step)


@pytest.mark.parametrize("kind", [Scalars, Logger, Run, Fabric, Function])
def test_every_writer_gets_the_numbers_of_metrics(kind):
    net, writer = model(), kind()
    opt = adamw(net, max_grad_norm=0.05)
    opt.log_to(writer, every=2, per="layer")
    expected = {}
    for t in range(1, 6):
        train(net, opt, 1)
        if t % 2 == 0:
            expected[t] = {key: float(x) for key, x in opt.metrics("layer").items()}
    assert writer.said == expected
    assert {"lr", "grad_norm", "update_norm", "clip_factor", "grad_norm/2.bias"} <= expected[
        2
    ].keys()


@pytest.mark.parametrize("where", ["log.csv", pathlib.Path("new", "log.csv")])
def test_a_path_is_a_table(where, tmp_path):
    net, path = model(), tmp_path / where
    opt = adamw(net)
    opt.log_to(str(path) if isinstance(where, str) else path)
    losses = []
    for _ in range(3):
        train(net, opt, 1)
        losses.append(float(opt.metrics()["grad_norm"]))
        assert [float(row["grad_norm"]) for row in rows_of(path)] == losses  # at any time
    rows = rows_of(path)
    assert list(rows[0]) == ["step", *NORMS, "lr"]
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [row["lr"] for row in rows] == ["0.01"] * 3
    assert [x.name for x in path.parent.iterdir()] == ["log.csv"]


def test_a_table_gets_the_columns_that_come_later(tmp_path):
    net, path = model(), tmp_path / "log.csv"
    opt = adamw(net, max_grad_norm=0.05)
    opt.log_to(path, norms=False)
    train(net, opt, 1)
    opt.add_param_group({"params": [("late", torch.nn.Parameter(torch.ones(2)))]})
    train(net, opt, 1)
    rows = rows_of(path)
    assert list(rows[0]) == ["step", "grad_norm", "clip_factor", "lr", "lr/0"]
    assert [(bool(row["lr"]), bool(row["lr/0"])) for row in rows] == [(True, False), (False, True)]


# windows of accumulated gradients


def accumulating(net, mean=True, groups=None, **more):
    tx = fo.accumulate(fo.adamw(0.01), 3, mean=mean)
    return fo.Optimizer(groups or net.named_parameters(), tx, **more)


WINDOWS = {
    "by keyword": (lambda net: adamw(net, accumulate=3), 3),
    "with a clip": (lambda net: adamw(net, accumulate=3, max_grad_norm=0.01), 3),
    "in groups": (
        lambda net: accumulating(net, groups=optim.param_groups_weight_decay(net)),
        3,
    ),
    "the sum": (lambda net: accumulating(net, mean=False), 1),
    "eager": (lambda net: accumulating(net, engine="eager"), 3),
    "foreach": (lambda net: accumulating(net, engine="foreach"), 3),
    "with clocks of the device": (lambda net: accumulating(net, capturable=True), 3),
    "a schedule": (
        lambda net: fo.Optimizer(
            net.named_parameters(), fo.accumulate(fo.adamw(0.01), lambda updates: 3)
        ),
        3,
    ),
    "a first stage": (
        lambda net: fo.Optimizer(
            net.named_parameters(),
            fo.chain(fo.accumulate(fo.scale_by_adam(), 3), fo.scale_by_learning_rate(0.01)),
        ),
        3,
    ),
}


@pytest.mark.parametrize(("make", "divisor"), WINDOWS.values(), ids=WINDOWS)
def test_there_is_one_row_for_each_update_with_the_norms_of_its_window(make, divisor):
    net, writer = model(), Run()
    opt = make(net)
    opt.log_to(writer)
    expected, sums = {}, None
    start = [p.detach().clone() for p in net.parameters()]
    for t in range(1, 8):
        backward(net, opt)
        grads = [p.grad.clone() for p in net.parameters()]
        sums = grads if sums is None else [a + b for a, b in zip(sums, grads, strict=True)]
        opt.step()
        if t % 3 == 0:
            moved = [p - q for p, q in zip(net.parameters(), start, strict=True)]
            start = [p.detach().clone() for p in net.parameters()]
            expected[t // 3] = norm(sums).item() / divisor, norm(moved).item()
            sums = None
    assert list(writer.said) == [1, 2]
    assert writer.said[1].keys() == writer.said[2].keys()
    for t, (grad, update) in expected.items():
        assert writer.said[t]["grad_norm"] == pytest.approx(grad, rel=1e-6)
        assert writer.said[t]["update_norm"] == pytest.approx(update, rel=1e-6)
        assert any(key.partition("/")[0] == "lr" for key in writer.said[t])


def test_metrics_between_updates_are_those_of_the_last_one():
    net = model()
    opt = optim.AdamW(
        optim.param_groups_weight_decay(net), lr=0.01, max_grad_norm=0.05, accumulate=3
    )
    opt.record_norms()
    seen = []
    for _ in range(8):
        train(net, opt, 1)
        seen.append({key: x.item() for key, x in opt.metrics().items()})
    assert seen[:2] == [{}, {}]
    assert seen[2] == seen[3] == seen[4] != seen[5] == seen[6] == seen[7]
    assert set(seen[2]) == {*NORMS, "clip_factor", "lr/decay", "lr/no_decay"}
    assert set(opt.metrics("layer")) >= {"grad_norm/0.weight", "update_norm/2.bias"}


def test_every_counts_updates_and_rows_go_on_with_a_checkpoint_inside_a_window():
    net, writer = model(), Run()
    opt = adamw(net, accumulate=2)
    opt.log_to(writer, every=2)
    train(net, opt, 3)
    saved = copy.deepcopy(opt.state_dict()), copy.deepcopy(net.state_dict())
    train(net, opt, 6)
    assert list(writer.said) == [2, 4]
    again, other = model(), Run()
    resumed = adamw(again, accumulate=2)
    resumed.log_to(other, every=2)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    train(again, resumed, 6)
    assert other.said == writer.said


def test_calls_without_gradients_end_a_window_and_begin_none():
    net, writer = model(), Run()
    opt = adamw(net, accumulate=2)
    opt.log_to(writer)
    for _ in range(3):
        train(net, opt, 1)
        for _ in range(4):
            opt.zero_grad()
            opt.step()
    assert list(writer.said) == [1, 2, 3]
    assert all(row["update_norm"] > 0 for row in writer.said.values())


def test_the_window_of_sam_makes_one_row_too():
    net, writer = model(), Run()
    opt = fo.Optimizer(net.parameters(), fo.sam(fo.accumulate(fo.sgd(0.1), 2)))
    opt.log_to(writer)
    for _ in range(4):
        opt.step(lambda: backward(net, opt))
    assert list(writer.said) == [1, 2]
    assert all(row["update_norm"] > 0 for row in writer.said.values())


def test_the_table_goes_on_with_a_checkpoint(tmp_path):
    net, path = model(), tmp_path / "log.csv"
    opt = adamw(net)
    opt.log_to(path, every=2)
    train(net, opt, 3)
    saved = copy.deepcopy(opt.state_dict()), copy.deepcopy(net.state_dict())
    train(net, opt, 3)
    expected = rows_of(path)
    path.unlink()
    again = model()
    resumed = adamw(again)
    resumed.log_to(path, every=2)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    train(again, resumed, 3)
    assert rows_of(path) == expected[1:]
    assert [row["step"] for row in expected] == ["2", "4", "6"]
    opt.load_state_dict(saved[0])  # of a step before
    train(net, opt, 1)
    assert [row["step"] for row in rows_of(path)] == ["4", "6", "4"]


def test_a_prefix_and_no_norms():
    net, writer = model(), Run()
    adamw_ = adamw(net)
    adamw_.log_to(writer, norms=False, prefix="optimizer/")
    train(net, adamw_, 1)
    assert writer.said == {1: {"optimizer/lr": 0.01}}


def test_it_ends_when_it_is_closed():
    net, writer = model(), Run()
    opt = adamw(net)
    log = opt.log_to(writer)
    train(net, opt, 1)
    log.close()
    train(net, opt, 1)
    assert list(writer.said) == [1]
    assert not opt._optimizer_step_pre_hooks
    assert not opt._optimizer_step_post_hooks


def test_copies_log_nothing_and_nothing_keeps_the_optimizer():
    net, writer = model(), Run()
    opt = adamw(net)
    opt.log_to(writer)
    train(net, opt, 1)
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        other.step()
    assert list(writer.said) == [1]
    gone = weakref.ref(opt)
    del opt
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("writer", [None, 3, object()])
def test_what_is_no_writer_is_refused(writer):
    opt = adamw(model())
    with pytest.raises(ArgumentError, match=r"`AdamW\.log_to`: expected a path of a CSV file, "):
        opt.log_to(writer)
    assert not opt._optimizer_step_post_hooks


class Module(torch.nn.Module):
    def training_step(self): ...

    def log_dict(self, dictionary): ...

    def log(self, name, value): ...


def test_a_lightning_module_is_told_of_its_logger():
    with pytest.raises(ArgumentError, match=r"log_to\(self\.logger\)"):
        adamw(model()).log_to(Module())


@pytest.mark.parametrize(("wrong", "said"), [({"every": 0}, "every"), ({"per": "layers"}, "per")])
def test_options_are_checked(wrong, said):
    opt = adamw(model())
    with pytest.raises(HyperparameterError, match=rf"`AdamW\.log_to`: `{said}` must be"):
        opt.log_to(Run(), **wrong)
    assert not opt._optimizer_step_pre_hooks


def test_optimizers_that_evaluate_the_loss_are_logged_too():
    net, writer = model(), Run()
    opt = fo.Optimizer(net.parameters(), fo.sam(fo.sgd(0.1)))
    opt.log_to(writer)
    opt.step(lambda: backward(net, opt))
    assert writer.said[1]["update_norm"] > 0
