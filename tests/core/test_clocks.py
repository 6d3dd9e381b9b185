"""Counts are whole numbers, exact beyond 2^24 in every form that is pure."""

import pytest
import torch

import funcopt as fo

FAR = 2**24 - 2


def as_float(t):
    """What a schedule sees, as the rate: no rounding to float32 on the way."""
    return 1e-9 * t


def late(tx, params):
    """A state in which all clocks stand shortly before 2^24."""
    return fo.tree.map(
        lambda x: torch.full_like(x, FAR) if x.dtype == torch.int64 else x, tx.init(params)
    )


CHAINS = {
    "alone": fo.sgd(as_float),
    "in accumulate": fo.accumulate(fo.sgd(as_float), 1),
    "in lookahead": fo.lookahead(fo.sgd(as_float), 10**9),
    "in skip_if": fo.skip_if(fo.sgd(as_float)),
    "in partition": fo.partition({"a": fo.sgd(as_float)}, "a"),
    "linear": fo.sgd(fo.linear_schedule(0.0, 1e-9 * 2**26, 2**26)),
}


@pytest.mark.parametrize("how", ["eager", "vmap", "vmap of different", "grad", "compiled"])
@pytest.mark.parametrize("name", CHAINS)
def test_a_schedule_goes_on_counting(name, how):
    tx, params = CHAINS[name], {"w": torch.zeros(1, dtype=torch.float64)}
    grads = {"w": torch.ones(1, dtype=torch.float64)}
    if name == "in accumulate":
        micro = lambda s: s._replace(  # noqa: E731
            memory=s.memory._replace(micro_step=torch.zeros((), dtype=torch.int64))
        )
    else:
        micro = lambda s: s  # noqa: E731

    def rates(state, scale):
        found = []
        for _ in range(6):
            updates, state = tx.update(fo.tree.map(lambda g: g * scale, grads), state, params)
            found.append(-updates["w"][0] / 1e-9)
        return torch.stack(found)

    state, one = micro(late(tx, params)), torch.tensor(1.0, dtype=torch.float64)
    if how == "vmap":
        found = torch.func.vmap(rates)(fo.stack([state] * 2), torch.stack([one, one]))[1]
    elif how == "vmap of different":
        other = fo.tree.map(lambda x: x + 1000 if x.dtype == torch.int64 and x == FAR else x, state)
        found = torch.func.vmap(rates)(fo.stack([other, state]), torch.stack([one, one]))[1]
    elif how == "grad":
        found = torch.func.jacrev(lambda s: rates(state, s))(one)
    elif how == "compiled":
        found = torch.compile(rates, fullgraph=True, backend="eager")(state, one)
    else:
        found = rates(state, one)
    expected = torch.arange(FAR, FAR + 6, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
