"""Real frameworks on tiny models and random data: no network, and nothing printed."""

import importlib
import os
import warnings

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def needed(name):
    """The module `name`. If it is missing, its tests are skipped; in CI that is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the frameworks' own imports
        if os.environ.get("CI"):
            return importlib.import_module(name)
        return pytest.importorskip(name)


class Net(torch.nn.Module):
    """With biases and a norm, which frameworks keep out of the weight decay."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(3, 4, dtype=torch.float64)
        self.norm = torch.nn.LayerNorm(4, dtype=torch.float64)
        self.last = torch.nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, x, labels):
        out = self.last(self.norm(self.first(x)).tanh()).squeeze(-1)
        return {"loss": (out - labels).square().mean()}


class Points(torch.utils.data.Dataset):
    """16 points in space, and a value for each."""

    def __init__(self):
        self.x = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(16, 3).sin()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "labels": self.x[index].sum().sin()}


def batches(size=4, shuffle=False):
    return torch.utils.data.DataLoader(Points(), batch_size=size, shuffle=shuffle)


def gap(net, other):
    """The largest difference between the parameters of two models."""
    pairs = zip(net.parameters(), other.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)
