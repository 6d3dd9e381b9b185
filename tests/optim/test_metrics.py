"""`metrics`, `init_state`, and the step by which a checkpoint asks for the state."""

import pytest
import torch
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError

from ..cases import by_dimension
from ..combinators.common import (
    START,
    drive,
    grads_at,
    named_parameters,
    same_bits,
    state_of,
    step,
    values,
    wrapped,
)

CLIPPED = fo.chain(fo.clip_by_global_norm(0.5), fo.sgd(0.1))


def norm_of(grads, *names):
    return torch.cat([grads[n].flatten() for n in names or grads]).norm()


# metrics


def test_before_the_first_step_there_is_nothing_to_see():
    _, opt = wrapped(CLIPPED, 0)
    assert opt.metrics() == {}


def test_norm_before_clipping_and_factor_are_those_of_the_last_step():
    params, opt = wrapped(CLIPPED, 0)
    for t in range(3):
        grads = grads_at(values(params), t)
        step(opt, params, grads)
        found = opt.metrics()
        assert set(found) == {"grad_norm", "clip_factor", "lr"}
        norm = norm_of(grads)
        torch.testing.assert_close(found["grad_norm"], norm, rtol=1e-14, atol=0)
        torch.testing.assert_close(found["clip_factor"], 0.5 / (norm + 1e-6), rtol=1e-14, atol=0)


def test_what_was_returned_stays_as_it_is():
    """A count in memory and a rate in a group, both of which are written in place."""
    p = torch.nn.Parameter(torch.ones(3))
    opt = fo.Optimizer([p], fo.skip_if(fo.adamw()))
    opt.param_groups[0]["lr"] = torch.tensor(0.5)
    kept = []
    for value in (1.0, torch.nan, 1.0, torch.nan):
        p.grad = torch.full((3,), value)
        opt.step()
        kept.append(opt.metrics())
        opt.param_groups[0]["lr"].mul_(0.5)
    assert [float(x["skipped"]) for x in kept] == [0, 1, 1, 2]
    assert [float(x["lr"]) for x in kept] == [0.5, 0.25, 0.125, 0.0625]


def test_what_is_short_is_not_clipped():
    _, opt = wrapped(fo.chain(fo.clip_by_global_norm(1e3), fo.sgd(0.1)), 1)
    assert opt.metrics()["clip_factor"] == 1.0


def test_a_second_stage_has_a_longer_name_and_sees_what_the_first_has_left():
    tx = fo.chain(fo.clip_by_global_norm(0.5, eps=0.0), fo.clip_by_global_norm(0.1), fo.sgd(0.1))
    _, opt = wrapped(tx, 1)
    found = opt.metrics()
    names = [
        "grad_norm",
        "clip_factor",
        "clip_by_global_norm_2/grad_norm",
        "clip_by_global_norm_2/clip_factor",
        "lr",
    ]
    assert list(found) == names
    assert found["grad_norm"] == norm_of(grads_at(START, 0))
    assert found["clip_by_global_norm_2/grad_norm"].item() == pytest.approx(0.5)
    assert found["clip_by_global_norm_2/clip_factor"].item() == pytest.approx(0.2, rel=1e-5)


def grouped(tx, *options):
    """An optimizer with a group for each of `options`, one parameter in each; one step made."""
    params = named_parameters()
    each = zip(params.items(), options, strict=False)
    opt = fo.Optimizer([{"params": [param], **own} for param, own in each], tx)
    step(opt, params, grads_at(START, 0))
    return opt


def test_every_metric_of_several_groups_is_a_number_of_its_own():
    opt = grouped(CLIPPED, {}, {"lr": 0.2}, {"max_norm": 0.1})
    found = opt.metrics("group")
    assert all(value.dim() == 0 for value in found.values())
    assert {k: v.item() for k, v in found.items() if k.startswith("lr")} == pytest.approx(
        {"lr/0": 0.1, "lr/1": 0.2, "lr/2": 0.1}
    )
    factors = [found[f"clip_factor/{i}"] for i in range(3)]
    norm = norm_of(grads_at(START, 0)).item()
    limits = (0.5, 0.5, 0.1)
    assert [f.item() for f in factors] == pytest.approx([x / norm for x in limits], 1e-5)


def test_groups_are_called_by_their_names():
    opt = grouped(CLIPPED, {"name": "decay"}, {"name": "no_decay"}, {})
    assert [key for key in opt.metrics() if "lr" in key] == ["lr/decay", "lr/no_decay", "lr/2"]


def test_groups_with_the_same_rate_have_the_keys_of_groups_with_another():
    opt = grouped(CLIPPED, {}, {"lr": 0.2})
    before = list(opt.metrics())
    for group in opt.param_groups:
        group["lr"] = 0.0
    step(opt, named_of(opt), grads_at(START, 1))
    assert list(opt.metrics()) == before


def test_a_group_that_takes_no_part_changes_no_key_of_the_others():
    opt = grouped(CLIPPED, {}, {"lr": 0.2})
    params = named_of(opt)
    step(opt, params, {"b": torch.ones(2, dtype=torch.float64)})
    assert list(opt.metrics()) == ["grad_norm", "clip_factor", "lr/0"]


def named_of(opt):
    return dict(zip(("b", "gain"), (g["params"][0] for g in opt.param_groups), strict=True))


def test_one_number_for_each_name():
    opt = grouped(CLIPPED, {}, {"lr": 0.2}, {"max_norm": 0.1})
    usual, found = opt.metrics(), opt.metrics(per="step")
    assert list(found) == ["grad_norm", "clip_factor", "lr"]
    assert found["grad_norm"] == usual["grad_norm"]
    assert found["lr"].item() == pytest.approx(0.15)  # of those that differ
    each = opt.metrics(per="group")
    assert each.keys() - usual.keys() == {f"clip_factor/{i}" for i in range(3)}
    with pytest.raises(HyperparameterError, match=r"`Optimizer\.metrics`: `per` must be one of"):
        opt.metrics("layers")


def test_keys_do_not_depend_on_values():
    one = grouped(CLIPPED, {}, {"max_norm": 0.1}, {"lr": 0.3})
    other = grouped(CLIPPED, {}, {}, {})
    for per in (None, "step", "group", "layer"):
        assert list(one.metrics(per)) == list(other.metrics(per))


def test_groups_of_one_name_have_keys_of_their_own():
    opt = grouped(CLIPPED, {"name": "decay", "lr": 0.1}, {"name": "decay", "lr": 0.2})
    rates = {k: v.item() for k, v in opt.metrics().items() if k.startswith("lr")}
    assert rates == {"lr/decay": 0.1, "lr/decay_1": 0.2}


LABELED = fo.partition({"matrix": CLIPPED, "rest": CLIPPED}, by_dimension)


def test_labels_have_norms_of_their_own():
    _, opt = wrapped(LABELED, 1)
    found, grads = opt.metrics(), grads_at(START, 0)
    names = ("grad_norm", "clip_factor", "lr")
    assert list(found) == [f"{name}/{at}" for at in ("matrix", "rest") for name in names]
    torch.testing.assert_close(found["grad_norm/matrix"], norm_of(grads, "w"))
    torch.testing.assert_close(found["grad_norm/rest"], norm_of(grads, "b", "gain"))
    total = opt.metrics("step")
    assert list(total) == ["grad_norm", "clip_factor", "lr"]
    torch.testing.assert_close(total["grad_norm"], norm_of(grads))


def test_a_label_without_gradients_changes_no_key_of_the_others():
    params, opt = wrapped(LABELED, 1)
    before = opt.metrics()
    step(opt, params, {"b": torch.ones(2, dtype=torch.float64)})
    assert list(opt.metrics()) == [key for key in before if key.endswith("/rest")]


def test_what_one_label_has_needs_no_label():
    tx = fo.partition({"matrix": CLIPPED, "rest": fo.adamw(0.01)}, by_dimension)
    _, opt = wrapped(tx, 1)
    assert list(opt.metrics()) == ["grad_norm", "clip_factor", "lr/matrix", "lr/rest"]


def test_the_groups_of_a_label_have_it_in_their_names():
    params = named_parameters()
    groups = [
        {"params": [("w", params["w"]), ("b", params["b"])], "name": "body"},
        {"params": [("gain", params["gain"])], "name": "head", "lr": 0.2},
    ]
    opt = fo.Optimizer(groups, LABELED)
    step(opt, params, grads_at(START, 0))
    rates = {key: value.item() for key, value in opt.metrics().items() if key.startswith("lr")}
    assert rates == pytest.approx({"lr/matrix": 0.1, "lr/body/rest": 0.1, "lr/head/rest": 0.2})


def test_a_stage_that_waits_changes_no_key_of_the_others():
    def grads(params, t):
        return {n: g / (t % 2) for n, g in grads_at(params, t).items()}  # infinite, then not

    params, opt = wrapped(fo.chain(fo.skip_if(fo.clip_by_global_norm(0.1)), CLIPPED), 0)
    seen = []
    drive(opt, params, 4, grads, after=lambda: seen.append(list(opt.metrics())))
    later = ["clip_by_global_norm_2/grad_norm", "clip_by_global_norm_2/clip_factor", "lr"]
    assert seen == [["skipped", *later], ["skipped", "grad_norm", "clip_factor", *later]] * 2


def test_stages_after_one_that_accumulates_are_those_of_the_last_update_too():
    inner = fo.accumulate(fo.clip_by_global_norm(0.1), 2)
    params, opt = wrapped(fo.chain(inner, CLIPPED), 0)
    seen = []
    drive(opt, params, 4, after=lambda: seen.append(list(opt.metrics())))
    later = ["clip_by_global_norm_2/grad_norm", "clip_by_global_norm_2/clip_factor", "lr"]
    assert seen == [[], *[["grad_norm", "clip_factor", *later]] * 3]


def test_parameters_of_a_group_that_join_late_have_metrics_too():
    params, opt = wrapped(fo.asgd(0.1, lambd=0.5), 0)
    step(opt, params, {"w": torch.ones(2, 3, dtype=torch.float64)})
    assert list(opt.metrics()) == ["eta"]
    step(opt, params, grads_at(START, 0))
    found = opt.metrics()
    assert list(found) == ["eta"]
    rate = [opt.state[params[name]]["eta"] for name in ("w", "b")]  # of the next step of each
    assert rate[0] < rate[1]
    alone = wrapped(fo.asgd(0.1, lambd=0.5), 0)
    seen = []
    for t in range(2):
        step(alone[1], alone[0], grads_at(START, t))
        seen.append(alone[1].metrics()["eta"])
    torch.testing.assert_close(found["eta"], (seen[0] + seen[1]) / 2)


class normalized(fo.TensorRule):
    """Scales every tensor to its own length."""

    metrics = ("length",)
    measure_per = "tensor"

    def measure_tensor(self, g, slots, p, s):
        return g.square().sum()

    def conclude(self, s, memory, total):
        return {"length": total.sqrt()}, memory

    def update_tensor(self, g, slots, p, s):
        return g / s.length, slots


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("elementwise", [True, False])
@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_what_each_tensor_has_of_its_own_has_its_name(engine, elementwise, steps, monkeypatch):
    monkeypatch.setattr(normalized, "elementwise", elementwise)
    params, opt = wrapped(fo.chain(normalized(), fo.sgd(0.1)), 0, engine=engine)
    norms = []

    def grads(params, t):
        found = grads_at(params, t)
        norms.append({name: g.norm() for name, g in found.items()})
        return found

    drive(opt, params, steps, grads)
    assert opt.engine == ("eager" if engine == "eager" else "fused")
    found = opt.metrics("layer")
    assert set(found) == {"length", *(f"length/{name}" for name in START), "lr"}
    assert opt.metrics().keys() == {"length", "lr"}
    torch.testing.assert_close(found["length"], sum(norms[-1].values()) / len(START))
    for name in START:
        torch.testing.assert_close(found[f"length/{name}"], norms[-1][name])


@pytest.mark.parametrize("tx", [fo.skip_if(CLIPPED), fo.accumulate(CLIPPED, 2)])
def test_of_a_stage_that_has_not_run_there_is_nothing(tx):
    def grads(params, t):
        found = grads_at(params, t)
        return {n: g / (1 - t) for n, g in found.items()}  # infinite at the second step

    params, opt = wrapped(tx, 0)
    seen = []
    drive(opt, params, 2, grads, after=lambda: seen.append(opt.metrics().get("grad_norm")))
    assert [norm is None for norm in seen] == (
        [False, True] if isinstance(tx, fo.skip_if) else [True, False]
    )


def test_stages_that_have_nothing_to_say_say_nothing():
    _, opt = wrapped(fo.chain(fo.scale_by_adam(), fo.scale(-0.1)), 2)
    assert opt.metrics() == {"lr": 1.0}  # the factor that the optimizer adds


def test_a_copy_has_made_no_step():
    _, opt = wrapped(CLIPPED, 1)
    fresh = fo.Optimizer(list(named_parameters().items()), CLIPPED)
    fresh.load_state_dict(opt.state_dict())
    assert fresh.metrics() == {}


# init_state

KINDS = {
    "adamw": fo.adamw(0.1),
    "amsgrad": fo.adam(0.1, amsgrad=True),
    "momentum": fo.sgd(0.1, momentum=0.9),
    "a schedule": fo.adamw(fo.linear_schedule(0.1, 0.0, 9)),
    "relative": fo.chain(fo.clip_by_global_norm(1.0), fo.scale_by_adam(), fo.scale(-0.1)),
    "a partition": fo.partition(
        {"matrix": fo.sgd(0.1, momentum=0.9), "rest": fo.adamw(0.01)}, by_dimension
    ),
    "a frozen label": fo.partition({"matrix": fo.adamw(0.1), "rest": fo.freeze()}, by_dimension),
    "accumulate": fo.accumulate(fo.adamw(fo.linear_schedule(0.1, 0.0, 9)), 2),
    "skip_if": fo.skip_if(fo.adamw(0.1), fo.norm_outlier()),
    "an average": fo.chain(fo.adamw(0.1), fo.ema_of_params()),
}

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_init_state_makes_the_state_before_the_first_step(kind):
    params, opt = wrapped(KINDS[kind], 0)
    opt.init_state()
    assert {float(s["step"]) for s in opt.state.values()} == {0.0}
    assert same_bits(values(params), START)
    _, other = wrapped(KINDS[kind], 1)
    made, grown = state_of(opt), state_of(other)
    assert {at: set(s) for at, s in made.items()} == {at: set(s) for at, s in grown.items()}
    for at, stored in made.items():
        assert all(x.shape == grown[at][k].shape for k, x in stored.items())
        assert all(x.dtype == grown[at][k].dtype for k, x in stored.items())
    drive(opt, params, 4)
    assert same_bits(values(params), values(wrapped(KINDS[kind], 4)[0]))


@every_kind
def test_init_state_keeps_what_is_there(kind):
    _, opt = wrapped(KINDS[kind], 3)
    before = state_of(opt)
    opt.init_state()
    assert same_bits(state_of(opt), before)
    late = torch.nn.Parameter(torch.ones(2, 2))
    opt.add_param_group({"params": [("late", late)]})
    opt.init_state()
    assert opt.state[late]["step"] == 0
    assert same_bits({at: s for at, s in state_of(opt).items() if at in before}, before)


@every_kind
def test_a_checkpoint_from_before_the_first_step_is_complete(kind):
    params, opt = wrapped(KINDS[kind], 0)
    opt.init_state()
    again = named_parameters()
    fresh = fo.Optimizer(list(again.items()), KINDS[kind])
    fresh.load_state_dict(opt.state_dict())
    assert same_bits(state_of(fresh), state_of(opt))
    drive(fresh, again, 3)
    drive(opt, params, 3)
    assert same_bits(values(again), values(params))


# The step by which torch.distributed.checkpoint asks for the state: no gradients, no rate.


class Net(torch.nn.Module):
    def __init__(self, params=START):
        super().__init__()
        for name, p in params.items():
            self.register_parameter(name, torch.nn.Parameter(p.clone()))


def probed(tx, params=START):
    net = Net(params)
    opt = fo.Optimizer(net.named_parameters(), tx)
    return net, opt, get_optimizer_state_dict(net, opt)


@every_kind
def test_asking_for_the_state_of_a_fresh_optimizer_is_no_step(kind):
    net, opt, saved = probed(KINDS[kind])
    params = dict(net.named_parameters())
    assert same_bits(values(params), START)
    assert {float(s["step"]) for s in opt.state.values()} == {0.0}
    assert set(saved["state"]) == set(START)
    net.zero_grad()
    drive(opt, params, 4)
    assert same_bits(values(params), values(wrapped(KINDS[kind], 4)[0]))


@pytest.mark.parametrize("tx", [KINDS["adamw"], KINDS["a schedule"], KINDS["a partition"]])
def test_asking_leaves_the_groups_as_they_were(tx):
    _, opt, _ = probed(tx)
    _, fresh = wrapped(tx, 0)
    for mine, other in zip(opt.param_groups, fresh.param_groups, strict=True):
        assert {k: v for k, v in mine.items() if k != "params"} == {
            k: v for k, v in other.items() if k != "params"
        }


@every_kind
def test_its_checkpoint_resumes_to_the_bit(kind):
    net = Net()
    params = dict(net.named_parameters())
    opt = fo.Optimizer(net.named_parameters(), KINDS[kind])
    drive(opt, params, 3)
    saved = get_optimizer_state_dict(net, opt)
    again = Net(values(params))
    others = dict(again.named_parameters())
    fresh = fo.Optimizer(again.named_parameters(), KINDS[kind])
    set_optimizer_state_dict(again, fresh, saved)
    assert same_bits(state_of(fresh), state_of(opt))
    drive(opt, params, 3, first=3)
    drive(fresh, others, 3, first=3)
    assert same_bits(values(others), values(params))


def test_a_first_step_with_a_rate_or_with_gradients_is_a_step():
    for lr, g in ((0.0, 1.0), (0.1, 0.0)):
        p = torch.nn.Parameter(torch.ones(2))
        opt = optim.AdamW([p], lr=lr)
        p.grad = torch.full_like(p, g)
        opt.step()
        assert opt.state[p]["step"] == 1


def test_groups_that_measure_the_same_show_one_number():
    params = named_parameters()
    tx = fo.chain(fo.clip_by_global_norm(0.5), fo.adamw(0.1))
    groups = [
        {"params": [params["b"], params["gain"]]},
        {"params": [params["w"]], "weight_decay": 0.0},
    ]
    opt = fo.Optimizer(groups, tx)
    for p in params.values():
        p.grad = torch.ones_like(p)
    opt.step()
    assert isinstance(opt.metrics()["grad_norm"], torch.Tensor)
