"""Code as users write it: what editors and checkers say of it, and what they must refuse.

`make types` checks this file by mypy and by pyright; where an error is expected, one that does not
come is an error. pytest runs it too.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, assert_type

import pytest
import torch
from torch import Tensor, nn

import funcopt as fo
import funcopt.optim as optim

Tensors = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def params() -> Tensors:
    return {"w": torch.ones(3), "b": torch.zeros(())}


def batch() -> Batch:
    return torch.ones(4, 3), torch.zeros(4)


def loss(params: Tensors, batch: Batch) -> Tensor:
    x, y = batch
    return (x @ params["w"] + params["b"] - y).square().mean()


# Optimizers


class Mine(optim.AdamW):
    """A class of the library as a base class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=1e-2, betas=(0.9, 0.99))


def learning_rates(opt: optim.Optimizer) -> list[float]:
    return [group["lr"] for group in opt.param_groups]


def test_the_classes_of_optim_are_classes() -> None:
    model = nn.Linear(3, 1)
    opt: optim.AdamW = optim.AdamW(model.parameters(), lr=1e-3)
    assert_type(optim.SGD(model.named_parameters(), 0.1, momentum=0.9), optim.SGD)
    optim.Adam(
        [{"params": model.parameters(), "lr": 0.1}], fused=True, engine="eager", offload=True
    )
    optim.AdamW(model.parameters(), fo.cosine_decay_schedule(1e-3, 100), amsgrad=True)
    optim.Muon(model.named_parameters(), lr=0.02, adamw_lr=3e-4, maximize=True)
    optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    optim.Lion(model.parameters(), max_grad_norm=1.0, ema=fo.linear_schedule(0.9, 0.99, 5))
    Signum(model.parameters(), accumulate=4)
    optim.SGD(optim.param_groups_weight_decay(model), lr=0.1)
    assert isinstance(opt, fo.Optimizer)
    assert learning_rates(Mine(model)) == [1e-2]

    scheduler = torch.optim.lr_scheduler.StepLR(opt, 10)
    optim.lr_scheduler.CosineAnnealingLR(opt, T_max=10)
    assert_type(opt.step(lambda: 1.0), float)
    assert_type(opt.step(lambda: torch.ones(())), Tensor)
    opt.step()
    scheduler.step()
    assert_type(opt.tx, fo.GradientTransformation)


def test_optimizers_are_watched() -> None:
    model, seen = nn.Linear(3, 1), list[int]()
    opt = optim.AdamW(model.parameters(), lr=1e-3)
    log = opt.log_to(lambda values, step: seen.append(step), every=2, per="layer")
    handle = opt.record_norms(every=2)
    assert_type(opt.metrics("step"), dict[str, Tensor])
    log.close()
    handle.remove()
    print(fo.explain(opt), fo.explain(opt.tx, model).markdown())
    found = optim.find_lr(opt, model, loss_of, [torch.ones(2, 3)], steps=3, progress=False)
    assert_type(found.suggestion, float | None)
    with pytest.raises(fo.errors.HyperparameterError):
        opt.metrics("layers")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    loss: Tensor = model(batch).square().mean()
    return loss


def test_a_wrong_argument_of_a_class_is_an_error() -> None:
    ps = [torch.ones(2, requires_grad=True)]
    with pytest.raises(TypeError):
        optim.AdamW(ps, learning_rate=1e-3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        optim.SGD(ps, 0.1, 0.9, 0.0, 0.0, False, True)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        optim.Lion()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises((TypeError, fo.errors.HyperparameterError)):
        optim.AdamW(ps, lr="fast")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises((TypeError, fo.errors.HyperparameterError)):
        optim.AdamW(ps, betas=0.9)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(fo.errors.HyperparameterError):
        optim.AdamW(ps, engine="fast")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def signum(lr: fo.Scalar = 1e-3, beta: fo.Scalar = 0.9) -> fo.GradientTransformation:
    return fo.chain(fo.ema(beta, debias=False), fo.scale_by_sign(), fo.scale_by_learning_rate(lr))


Signum = optim.optimizer_class("Signum", signum)
Private = optim.optimizer_class("Private", fo.dpsgd, lr=0.1, max_norm=1.0, noise_multiplier=1.0)
LikeTorch = optim.optimizer_class("LikeTorch", fo.adamw, like=torch.optim.AdamW)


def test_optimizer_class_takes_the_arguments_of_its_function() -> None:
    ps = [torch.ones(2, requires_grad=True)]
    opt = Signum(ps, lr=1e-2, beta=0.8)
    assert learning_rates(opt) == [1e-2]
    assert learning_rates(Private(ps)) == [0.1]
    assert learning_rates(LikeTorch(ps, lr=0.1, fused=True)) == [0.1]
    Signum(ps, fo.linear_schedule(0.1, 0.0, 10), maximize=True, engine="eager", offload=True)
    with pytest.raises(TypeError):
        Signum(ps, momentum=0.8)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    with pytest.raises((TypeError, fo.errors.HyperparameterError)):
        Signum(ps, beta="high")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]


# Chains, and the pure form


def test_parameters_stay_of_the_type_that_they_are() -> None:
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(fo.linear_schedule(1e-3, 0.0, 100)))
    assert_type(tx, fo.chain)
    ps, state = params(), tx.init(params())
    value, grads = fo.value_and_grad(lambda ps: loss(ps, batch()))(ps)
    assert_type(value, Tensor)
    assert_type(grads, Tensors)
    updates, state = tx.update(grads, state, ps)
    assert_type(updates, Tensors)
    ps = fo.apply_updates(ps, updates)
    assert_type(ps, Tensors)
    assert_type(fo.eval_params(tx, state, ps), Tensors)
    ps, state = fo.donated(tx)(ps, grads, state)
    assert_type(ps, Tensors)

    one = torch.ones(3)
    assert_type(fo.apply_updates(one, one), Tensor)
    assert_type(fo.apply_updates([one], [one.clone()]), list[Tensor])


def test_what_works_tensor_by_tensor_has_a_state_with_fields() -> None:
    state = fo.scale_by_adam().init(params())
    assert_type(state, fo.State)
    assert_type(state.step, Tensor)
    assert_type(fo.state_dict(state), dict[str, Tensor])
    assert_type(fo.load_state_dict(state, fo.state_dict(state)), fo.State)
    assert_type(fo.detach_state(state), fo.State)


def test_records_are_frozen_and_complete() -> None:
    tx = fo.scale_by_adam(betas=(0.9, 0.99), eps=torch.tensor(1e-8))
    assert_type(tx, fo.scale_by_adam)
    assert_type(tx.replace(eps=1e-6), fo.scale_by_adam)
    assert_type(fo.with_hyperparams(tx, {"eps": 1e-6}), fo.scale_by_adam)
    assert_type(tx.amsgrad, bool)
    assert_type(fo.hyperparams(tx), dict[str, fo.Scalar | tuple[fo.Scalar, ...]])
    with pytest.raises(AttributeError):
        tx.amsgrad = True  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        fo.scale_by_adam(beta=0.9)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises((TypeError, fo.errors.HyperparameterError)):
        fo.scale_by_adam(eps="small")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises((TypeError, fo.errors.HyperparameterError)):
        fo.adamw(lr="fast")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(fo.errors.HyperparameterError):
        fo.chain(fo.adamw(), 3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(fo.errors.HyperparameterError):
        fo.warmup_stable_decay_schedule(1.0, 1, 1, 1, decay_type="steep")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def halved(count: Any) -> Any:
    return 1e-3 * 0.5**count


def test_a_schedule_is_any_function_of_the_count() -> None:
    fo.adamw(halved)
    fo.adamw(lambda count: 1e-3 / (1 + count))
    fo.adamw(fo.join_schedules((fo.linear_schedule(0.0, 1.0, 10), halved), (10,)))
    schedule: fo.Schedule = fo.constant_schedule(1e-3)
    rate: fo.Scalar = schedule
    assert fo.sgd(rate) == fo.sgd(schedule)


def test_partition_takes_patterns_functions_and_trees() -> None:
    parts = {"muon": fo.muon(), "adamw": fo.adamw()}
    rules = [(r"bias$", "adamw"), (lambda name, p: p.ndim < 2, "adamw"), (r"", "muon")]
    assert_type(fo.partition(parts, rules), fo.partition)
    fo.partition(parts, lambda name, p: "adamw")
    fo.masked(fo.add_decayed_weights(0.1), {"w": True, "b": False})
    fo.chain(fo.sgd(), fo.freeze(r"^head"))


# A rule of one's own


class Momentum(NamedTuple):
    momentum_buffer: Tensor


class heavy_ball(fo.TensorRule):
    """Adds up gradients."""

    momentum: fo.Scalar = 0.9
    nesterov: bool = False
    elementwise = True

    def init_tensor(self, p: Tensor) -> Momentum:
        return Momentum(torch.zeros_like(p))

    def prepare(self: Any, step: Any, memory: fo.typing.Memory) -> dict[str, Any]:
        return {"rest": 1 - self.momentum}

    def update_tensor(
        self, g: Tensor, slots: Momentum, p: Tensor, s: Any
    ) -> tuple[Tensor, Momentum]:
        total = s.momentum * slots.momentum_buffer + s.rest * g
        return total.clone(), Momentum(total)


class plain(fo.GradientTransformation):
    """Sees whole trees."""

    factor: float = -0.1

    def update(
        self,
        updates: fo.typing.Updates,
        state: fo.typing.OptState,
        params: fo.typing.Params | None = None,
        **extra: Any,
    ) -> tuple[fo.typing.Updates, fo.typing.OptState]:
        return fo.tree.map(lambda g: self.factor * g, updates), state


def test_a_rule_of_ones_own_is_a_transformation() -> None:
    rule = heavy_ball(0.8, nesterov=True)
    assert_type(rule.replace(momentum=0.7), heavy_ball)
    updates, _ = fo.chain(rule, fo.scale(-1.0)).update(
        params(), fo.chain(rule, fo.scale(-1.0)).init(params())
    )
    assert_type(updates, Tensors)
    assert_type(plain().update(params(), ())[0], Tensors)
    with pytest.raises(TypeError):
        heavy_ball(beta=0.9)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


# Training as a function


def batches(seed: int) -> Iterator[Batch]:
    return (batch() for _ in range(2))


def test_training_keeps_the_type_of_the_parameters() -> None:
    step = fo.train_step(loss, fo.adamw(1e-3))
    state = fo.TrainState.start(step.tx, params())
    assert_type(state, fo.TrainState[Tensors])
    state, value = step(state, batch())
    assert_type(state.params, Tensors)
    assert_type(value, Tensor)
    after, losses = fo.unroll(step, state, [batch()] * 2)
    assert_type(after, fo.TrainState[Tensors])
    assert_type(losses, Tensor)
    assert_type(fo.unstack(fo.stack([params(), params()])), list[Tensors])

    found = fo.hypergrad(
        loss, fo.sgd(), {"lr": 0.1}, params(), batches(0), lambda ps: loss(ps, batch())
    )
    assert_type(found.state.params, Tensors)
    assert_type(found.params, Tensors | None)


def test_a_sweep_keeps_it_too() -> None:
    result = fo.sweep(loss, fo.adam(), {"lr": [0.1, 0.2]}, params(), batches, progress=False)
    assert_type(result, fo.Sweep[Tensors])
    assert_type(result.run(0).params, Tensors)
    made = fo.sweep(
        loss, fo.adam, {"lr": [0.1]}, lambda seed: params(), batches, seeds=[0], progress=False
    )
    assert_type(made.params, Tensors)


def test_modules_are_taken_apart_and_called() -> None:
    model = nn.Linear(3, 1)
    parts = fo.split_module(model)
    assert_type(parts.params, Tensors)
    _, buffers = fo.call_module(model, parts, torch.ones(3))
    assert_type(buffers, Tensors)


def test_a_solver_keeps_its_signature() -> None:
    @fo.custom_root(lambda x, theta: x - theta)
    def solve(start: Tensor, theta: Tensor) -> Tensor:
        return theta.clone()

    assert_type(solve(torch.zeros(()), torch.ones(())), Tensor)
    estimated = fo.zero_order(lambda x, theta: (x * theta).sum())
    assert_type(estimated(torch.ones(3), torch.ones(3)), Tensor)


def test_trees_come_back_as_they_are() -> None:
    assert_type(fo.tree.map(torch.zeros_like, params()), Tensors)
    assert_type(fo.tree.zeros_like(params()), Tensors)
    assert_type(fo.tree.cast(params(), torch.float64), Tensors)
    assert_type(fo.tree.norm(params()), Tensor)
    assert_type(fo.select(True, params, params), Tensors)
