"""Contract 53: Accelerate."""

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import ModeError

from . import Net, batches, gap, needed

accelerate = needed("accelerate")


def clipped(params):
    return fo.Optimizer(params, fo.chain(fo.clip_by_global_norm(0.1), fo.adamw(0.05)))


def adamw(params):
    return optim.AdamW(params, lr=0.05)


def sgd(params):
    return optim.SGD(params, lr=0.05, momentum=0.9)


every_optimizer = pytest.mark.parametrize("make", [adamw, sgd, clipped])


def prepared(make, every=1):
    net = Net()
    opt = make(net.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 20)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=every)
    return accelerator, net, *accelerator.prepare(net, opt, batches(), scheduler)


def run(accelerator, model, opt, data, scheduler, epochs):
    for _ in range(epochs):
        for batch in data:
            with accelerator.accumulate(model):
                loss = model(**batch)["loss"]
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
                scheduler.step()
                opt.zero_grad()


@every_optimizer
@pytest.mark.parametrize("every", [1, 2])
def test_training_is_that_of_a_plain_loop(make, every):
    accelerator, net, *parts = prepared(make, every)
    run(accelerator, *parts, epochs=3)
    plain = Net()
    opt = make(plain.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 20)
    for _ in range(3):
        for t, batch in enumerate(batches()):
            (plain(**batch)["loss"] / every).backward()
            if (t + 1) % every == 0:
                torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
                opt.step()
                scheduler.step()
                opt.zero_grad()
    assert gap(net, Net()) > 0.01
    assert gap(net, plain) <= 1e-12


@every_optimizer
def test_resuming_is_to_the_bit_as_if_never_stopped(make, tmp_path):
    accelerator, whole, *parts = prepared(make)
    run(accelerator, *parts, epochs=2)
    accelerator.save_state(tmp_path)
    run(accelerator, *parts, epochs=2)
    accelerator, rest, *parts = prepared(make)
    accelerator.load_state(tmp_path)
    run(accelerator, *parts, epochs=2)
    assert gap(rest, whole) == 0.0


def test_steps_in_backward_are_those_of_a_plain_loop():
    """Accelerate's clipping finds no gradients, and its own accumulation would need them."""

    def in_backward(params):
        opt = adamw(params)
        opt.step_in_backward()
        return opt

    accelerator, net, *parts = prepared(in_backward)
    run(accelerator, *parts, epochs=3)
    assert all(p.grad is None for p in net.parameters())
    plain = Net()
    opt = adamw(plain.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 20)
    for batch in [batch for _ in range(3) for batch in batches()]:
        plain(**batch)["loss"].backward()
        opt.step()
        scheduler.step()
        opt.zero_grad()
    assert gap(net, plain) == 0.0
    accelerator, _, *parts = prepared(in_backward, every=2)
    with pytest.raises(ModeError, match="accumulate"):
        run(accelerator, *parts, epochs=1)
