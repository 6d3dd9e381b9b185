"""Schedules for the decay rate of an average of parameters."""

import math
from typing import Any

from .._core import checks
from .._numerics.scalars import clamp, exact, power, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import evaluated


class ema_warmup_schedule(ScheduleRecord):
    """Decay rate of an average that begins short, and grows as the training gets longer.

    With k = step - transition_begin:

        min(max(1 - (1 + k / inv_gamma)^-power, min_value), max_value)   where k > 0
        0                                                                where k <= 0

    So early parameters are soon forgotten: `ema_of_params(ema_warmup_schedule(0.9999))` is of use
    from the beginning on. With ``power = 1`` it is the mean over all steps at ``inv_gamma = 1``.
    For a million steps and more, a power of 2/3 is common, for less 3/4. The same as the warm-up of
    `EMAModel` in diffusers, of `ModelEmaV3` in timm and of `EMA` in ema-pytorch.

    Args:
        max_value: The decay rate that is not exceeded, in [0, 1).
        inv_gamma: Steps after which the decay rate is ``1 - 2^-power``; positive.
        power: How fast the average grows; positive.
        min_value: Lower bound of the decay rate, in [0, 1).
        transition_begin: Steps in which the average is the parameters; not negative.

    Raises:
        HyperparameterError: If a value or a length is out of range.

    References:
        Crowson, `EMAWarmup` of k-diffusion, 2022, whose names these are.
        https://github.com/crowsonkb/k-diffusion
    """

    max_value: Scalar = 0.9999
    inv_gamma: Scalar = 1.0
    power: Scalar = 2 / 3
    min_value: Scalar = 0.0
    transition_begin: Length = 0

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "max_value", self.max_value)
        checks.positive(self, "inv_gamma", self.inv_gamma)
        checks.positive(self, "power", self.power)
        checks.in_unit_interval(self, "min_value", self.min_value)
        checks.length(self, "transition_begin", self.transition_begin)

    def __call__(self, step: Any) -> Any:
        step, most, gamma, exponent, least = evaluated(
            step, self.max_value, self.inv_gamma, self.power, self.min_value
        )
        k = step - exact(self.transition_begin)
        now = 1 - 1 / power(1 + where(k > 0, k, 0.0) / gamma, exponent)
        return where(k > 0, clamp(now, least, most), 0.0)


class power_ema_schedule(ScheduleRecord):
    """Decay rate of an average whose length is a fixed share of the training so far.

    With t = step + 1, the number of the update:

        (1 - 1 / t)^(gamma + 1)

    so step s has a weight proportional to s^gamma at any time. `sigma_rel` is the standard
    deviation of these weights over the steps, as a share of the training: 0.05 and 0.1 are usual,
    and `post_hoc_ema` makes any other of the two. gamma is the largest root of

        gamma^3 + 7 gamma^2 + (16 - sigma_rel^-2) gamma + (12 - sigma_rel^-2) = 0

    Args:
        sigma_rel: Length of the average as a share of the training, in (0, 0.28).

    Raises:
        HyperparameterError: If `sigma_rel` is outside of these bounds.

    References:
        Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", CVPR
        2024, section 3. https://arxiv.org/abs/2312.02696
    """

    sigma_rel: float = 0.1

    def __post_init__(self) -> None:
        checks.structure(self, "sigma_rel", self.sigma_rel)
        checks.fixed(self, "sigma_rel", self.sigma_rel)
        checks.open_interval(self, "sigma_rel", self.sigma_rel, 0, 0.28)

    @property
    def gamma(self) -> float:
        """The power of the step in its weight."""
        inverse = 1 / self.sigma_rel**2
        x = math.sqrt(inverse)  # above the largest root, from where Newton's method descends to it
        for _ in range(50):
            value = ((x + 7) * x + 16 - inverse) * x + 12 - inverse
            x -= value / ((3 * x + 14) * x + 16 - inverse)
        return x

    def __call__(self, step: Any) -> Any:
        (step,) = evaluated(step)
        t = clamp(step, 0, math.inf) + 1
        return power(1 - 1 / t, self.gamma + 1)
