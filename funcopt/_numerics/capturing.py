"""Capture in a CUDA graph."""

import torch


def is_capturing(device: torch.device) -> bool:
    """Whether work for a device is captured now, and not done."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
