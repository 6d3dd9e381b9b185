"""Averages of any length, made after the training of saved ones."""

from collections.abc import Sequence
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import checks
from .._core.kinds import check_tree
from .._hints.calls import explained
from .._numerics.scalars import widen
from ..errors import StructureError
from ..schedules import power_ema_schedule
from ..typing import Params


class EmaSnapshot(NamedTuple, Generic[Params]):
    """An average by `power_ema_schedule`, as it was after some updates."""

    params: Params  # the average
    step: int  # updates made
    sigma_rel: float  # its length as a share of these


@explained
def post_hoc_ema(
    snapshots: Sequence[EmaSnapshot[Params]], sigma_rel: float, step: int | None = None
) -> Params:
    """The average of parameters with another length, from averages that were saved in training.

    An average by `power_ema_schedule` gives step s a weight proportional to s^gamma. The weights of
    the one that is wanted are approximated by a sum of those of the snapshots, x_i of snapshot i,
    in the sense of least squares over all steps:

        A x = b,   A_ij = <i, j>,   b_i = <i, wanted>,   then x <- x / sum(x)
        <i, j> = (g_i + 1) (g_j + 1) (t_i / t_j)^e / ((g_i + g_j + 1) max(t_i, t_j))
        e = g_j if t_i < t_j, else -g_i

    with the step t and the gamma g of each. Two averages, of 0.05 and 0.1, saved a few dozen times,
    are enough for all between 0.015 and 0.25:

        tx = chain(adamw(1e-3),
                   ema_of_params(power_ema_schedule(0.05), name="short"),
                   ema_of_params(power_ema_schedule(0.1), name="long"))
        saved.append(EmaSnapshot(eval_params(tx, state, params, which="long"), step, 0.1))

    Shapes and dtypes are those of the snapshots; the sum is in at least float32.

    Args:
        snapshots: Averages of the same training, of different steps or lengths.
        sigma_rel: Length of the average that is wanted, as a share of the training until `step`.
        step: The end of the average: a number of updates, by default that of the last snapshot.

    Raises:
        HyperparameterError: If a length is out of bounds, or a step is not a positive whole number.
        StructureError: If there is no snapshot, or their trees do not match.

    References:
        Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", CVPR
        2024, Algorithm 3. https://arxiv.org/abs/2312.02696
    """
    given = [EmaSnapshot(*snapshot) for snapshot in snapshots]
    if not given:
        raise StructureError("`post_hoc_ema`: `snapshots` is empty: there is nothing to average.")
    for snapshot in given:
        check_tree("post_hoc_ema", "params", snapshot.params)
        checks.whole_number("post_hoc_ema", "step", snapshot.step, least=1)
    last = max(snapshot.step for snapshot in given) if step is None else step
    checks.whole_number("post_hoc_ema", "step", last, least=1)
    shares = _shares(given, sigma_rel, last).tolist()

    def total(*each: Tensor) -> Tensor:
        wide = widen(each[0].dtype)
        parts = (share * x.to(wide) for share, x in zip(shares, each, strict=True))
        return sum(parts, torch.zeros_like(each[0], dtype=wide)).to(each[0].dtype)

    made: Params = tree.map(total, *(snapshot.params for snapshot in given))
    return made


def _shares(snapshots: Sequence[EmaSnapshot[Params]], sigma_rel: float, step: int) -> Tensor:
    """The share of each snapshot in the average that is wanted."""
    steps = torch.tensor([float(s.step) for s in snapshots], dtype=torch.float64)
    lengths = [power_ema_schedule(s.sigma_rel).gamma for s in snapshots]
    gammas = torch.tensor(lengths, dtype=torch.float64)
    wanted = power_ema_schedule(sigma_rel).gamma
    matrix = _products(steps[:, None], gammas[:, None], steps[None], gammas[None])
    right = _products(steps, gammas, torch.full_like(steps, step), torch.full_like(gammas, wanted))
    found: Tensor = torch.linalg.solve(matrix, right)
    return found / found.sum()


def _products(t_a: Tensor, g_a: Tensor, t_b: Tensor, g_b: Tensor) -> Tensor:
    """The inner products of the weights of averages, as functions of the step."""
    ratio = (t_a / t_b) ** torch.where(t_a < t_b, g_b, -g_a)
    return (g_a + 1) * (g_b + 1) * ratio / ((g_a + g_b + 1) * torch.maximum(t_a, t_b))
