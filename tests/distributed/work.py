"""What the ranks do: the model of the contract, each with its part of the data."""

import torch
import torch.distributed as dist

import funcopt as fo
from funcopt import optim

from ..contract.common import DATA, OPTIMIZERS, model, train

MAX_NORM = 0.05


def loss_of_part(net):
    """Of the points of this rank; the mean over the ranks is that over all points."""
    rank, size = dist.get_rank(), dist.get_world_size()
    data = DATA.chunk(size)[rank]
    return (net(data) - data.sum(1, keepdim=True).sin()).square().mean()


def step(net, opt, scheduler=None, loss=loss_of_part):
    opt.zero_grad()
    loss(net).backward()
    opt.step()
    if scheduler is not None:
        scheduler.step()


def params_of(net):
    """All parameters, whole, by the names that they have without wrappers."""
    found = {}
    for name, p in net.named_parameters():
        whole = p.full_tensor() if hasattr(p, "full_tensor") else p
        found[name.removeprefix("module.")] = whole.detach().clone()
    return found


def alone(name, steps):
    """The parameters of one process that has all of the data."""
    net = model()
    train(net, OPTIMIZERS[name](net), steps)
    return params_of(net)


def gap(params, others):
    assert params.keys() == others.keys()
    return max((p - others[name]).abs().max().item() for name, p in params.items())


CHAINS = {
    "elementwise": fo.chain(fo.scale_by_adam(), fo.scale_by_sign(), fo.scale(-0.01)),
    "clipped": fo.chain(fo.clip_by_global_norm(MAX_NORM), fo.adamw(0.01)),
    "schedule": fo.chain(
        fo.scale_by_adam(), fo.scale_by_learning_rate(fo.cosine_decay_schedule(0.01, 20))
    ),
}
CLASSES = {
    "AdamW": (optim.AdamW, {"lr": 0.01}),
    "SGD": (optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "AdamW, narrow": (optim.AdamW, {"lr": 0.01, "state_dtype": torch.float32}),
    "RMSprop": (optim.RMSprop, {"lr": 0.01, "momentum": 0.9}),
    **{name: (fo.Optimizer, {"tx": tx}) for name, tx in CHAINS.items()},
}


def alone_with(name, steps, schedule=None, theirs=None):
    """The parameters after steps in one process, by the class of that name, or by another."""
    net = model()
    cls, options = CLASSES[name]
    opt = (theirs or cls)(net.parameters(), **options)
    scheduler = schedule(opt) if schedule else None
    for _ in range(steps):
        train(net, opt, 1)
        if scheduler is not None:
            scheduler.step()
    return params_of(net)
