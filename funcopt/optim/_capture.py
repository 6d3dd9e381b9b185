"""Capture in a CUDA graph: what changes from step to step has to be on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._core import precision
from .._core.stage import Bucket
from .._numerics.capturing import is_capturing
from ..errors import ModeError


def check_capture(who: str, device: torch.device, buckets: Sequence[Bucket]) -> None:
    """Refuses to be captured with step counts on the host: each replay would repeat this step.

    Raises:
        ModeError: If it is.
    """
    if is_capturing(device) and any(map(_counts_on_host, buckets)):
        raise ModeError(
            f"`{who}`: `step` is captured in a CUDA graph, but the step counts are on the host: "
            "replays would not advance them, nor bias corrections and schedules. Create the "
            "optimizer with `capturable=True`, and take a few steps before the capture."
        )


def _counts_on_host(bucket: Bucket) -> bool:
    """Whether a count or a shared scalar of it is there."""
    shared = precision.entries(bucket.memory)
    return not isinstance(bucket.step, Tensor) or any(x.device.type == "cpu" for x in shared)
