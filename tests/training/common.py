"""Small problems, and all aliases."""

import inspect

import torch

import funcopt as fo
from funcopt import aliases
from funcopt.testing._facts import numeric_hyperparams

ALIASES = {
    name: make
    for name, make in vars(aliases).items()
    if not name.startswith("_") and inspect.isfunction(make)
}


def by_dimension(name, p):
    return "matrix" if p.ndim > 1 else "rest"


def is_matrix(name, p):
    return p.ndim > 1


CHAINS = {
    "clipped": fo.chain(fo.clip_by_global_norm(0.5), fo.adamw(0.05)),
    "masked": fo.chain(fo.masked(fo.add_decayed_weights(0.1), is_matrix), fo.adam(0.05)),
    "partition": fo.partition(
        {"matrix": fo.sgd(0.05, momentum=0.9), "rest": fo.adam(0.05)}, by_dimension
    ),
    "skip_if": fo.skip_if(fo.adam(0.05), fo.norm_outlier(1.0, 0.9, warmup=2)),
    "accumulate": fo.accumulate(fo.adam(0.05), 2),
    "all of them": fo.skip_if(
        fo.accumulate(
            fo.partition(
                {
                    "matrix": fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1, momentum=0.9)),
                    "rest": fo.masked(fo.adam(fo.linear_schedule(0.1, 0.05, 3)), r"bias"),
                },
                by_dimension,
            ),
            2,
        ),
        fo.norm_outlier(1.0, 0.9, warmup=2),
    ),
}


OPTIONS = {
    # What rounds on purpose has no slope to compare with.
    **{key: {"ns_dtype": None} for key in ("muon", "normuon", "adamuon", "namo", "scion")},
    "dpsgd": {"max_norm": 0.5, "noise_multiplier": 0.1},
}


def alias(name):
    """The alias with its defaults; a learning rate where there is none."""
    parameters = inspect.signature(ALIASES[name]).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty]
    return ALIASES[name](**({"lr": 0.05} if "lr" in needed else {}), **OPTIONS.get(name, {}))


def every_transformation():
    return {**{name: alias(name) for name in ALIASES}, **CHAINS}


def numbers(tx):
    """The hyperparameters that are numbers, or tuples of them."""
    return numeric_hyperparams(tx)


def params(seed=0):
    """A small network with a hidden layer; its matrices are square, so none is singular."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return 0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "0": {"weight": draw(3, 3), "bias": draw(3)},
        "1": {"weight": draw(3, 3), "bias": draw(3)},
    }


def batches(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(8, 3, generator=generator, dtype=torch.float64),
            torch.randn(8, 3, generator=generator, dtype=torch.float64),
        )
        for _ in range(steps)
    ]


def loss(params, batch):
    x, y = batch
    hidden = torch.tanh(x @ params["0"]["weight"].T + params["0"]["bias"])
    return (hidden @ params["1"]["weight"].T + params["1"]["bias"] - y).square().mean()


def trained(tx, state, batches, loss=loss):
    """A training after some steps, and the losses."""
    step, losses = fo.train_step(loss, tx), []
    for batch in batches:
        state, value = step(state, batch)
        losses.append(value)
    return state, torch.stack(losses)


def close(a, b, tol=1e-9):
    names = fo.tree.names(a)
    assert names == fo.tree.names(b)
    for name, x, y in zip(names, fo.tree.flatten(a)[0], fo.tree.flatten(b)[0], strict=True):
        torch.testing.assert_close(
            x, y, rtol=tol, atol=tol, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
        )
    return True
