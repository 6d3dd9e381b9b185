"""An image classifier with torch's schedulers and weight averaging.

Without data of your own it learns scikit-learn's handwritten digits. With ``--data DIR`` it reads
CIFAR-10 in its published python format: the files data_batch_1 ... data_batch_5 and test_batch.
"""

import argparse
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

import funcopt.optim as optim

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], optim.Optimizer]] = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.05, momentum=0.9, nesterov=True),
    "Adagrad": lambda ps: optim.Adagrad(ps, lr=0.01, lr_decay=1e-4, initial_accumulator_value=0.1),
    "RMSprop": lambda ps: optim.RMSprop(ps, lr=1e-3, alpha=0.9, centered=True),
    "Adam": lambda ps: optim.Adam(ps, lr=2e-3, betas=(0.9, 0.99), amsgrad=True),
}


class Classifier(nn.Module):
    """Two convolutions and three linear layers, for square images of any size."""

    def __init__(self, channels: int, size: int, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(32 * (size // 4) ** 2, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def read_cifar10(folder: Path) -> tuple[TensorDataset, TensorDataset]:
    """The images of CIFAR-10, in [-1, 1], from its published files."""

    def read(names: Iterable[str]) -> TensorDataset:
        files = [pickle.loads((folder / name).read_bytes(), encoding="bytes") for name in names]
        pixels = np.concatenate([file[b"data"] for file in files]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([file[b"labels"] for file in files])
        images = torch.from_numpy(pixels).float() / 127.5 - 1
        return TensorDataset(images, torch.from_numpy(labels).long())

    return read(f"data_batch_{i}" for i in range(1, 6)), read(["test_batch"])


def read_digits() -> tuple[TensorDataset, TensorDataset]:
    """1,797 digits of 8 x 8 pixels; the last 297 to test with."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 8 - 1
    split = TensorDataset(images[:1500], torch.from_numpy(labels[:1500]).long())
    return split, TensorDataset(images[1500:], torch.from_numpy(labels[1500:]).long())


def train_epoch(model: nn.Module, opt: torch.optim.Optimizer, batches: DataLoader) -> float:
    """One pass over the images; returns the mean loss."""
    losses = []
    model.train()
    for x, y in batches:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    model.eval()
    right = [(model(x).argmax(1) == y).float().mean() for x, y in DataLoader(data, 1000)]
    return torch.stack(right).mean().item()


def main(data: Path | None = None, epochs: int = 4) -> dict[str, tuple[list[float], float]]:
    """The losses by epoch and the accuracy on unseen images, for every way to train."""
    training, unseen = read_digits() if data is None else read_cifar10(data)
    channels, size = training.tensors[0].shape[1:3]
    results = {}

    def fit(name: str, make, make_scheduler=None, average: bool = False) -> None:
        torch.manual_seed(0)
        model = Classifier(channels, size)
        batches = DataLoader(training, 64, shuffle=True)
        opt = make(model.parameters())
        scheduler = make_scheduler(opt) if make_scheduler else None
        averaged, losses = AveragedModel(model), []
        for epoch in range(epochs):
            rate = opt.param_groups[0]["lr"]
            losses.append(train_epoch(model, opt, batches))
            print(f"{name:24} epoch {epoch + 1}  loss {losses[-1]:.4f}  lr {rate:.6f}")
            if scheduler:
                scheduler.step()
            if average and epoch >= epochs // 2:
                averaged.update_parameters(model)
        if average:
            update_bn(batches, averaged)
        results[name] = losses, accuracy(averaged if average else model, unseen)
        print(f"{name:24} accuracy {results[name][1]:.3f}")

    for name, make in OPTIMIZERS.items():
        fit(name, make)
    sgd = OPTIMIZERS["SGD"]
    fit("SGD, StepLR", sgd, lambda opt: StepLR(opt, step_size=2, gamma=0.1))
    fit("SGD, CosineAnnealingLR", sgd, lambda opt: CosineAnnealingLR(opt, T_max=2))
    fit("SGD, averaged weights", sgd, lambda opt: SWALR(opt, swa_lr=0.05), average=True)
    draw(results, Path("out/image_classifier.png"))
    return results


def draw(results: dict[str, tuple[list[float], float]], path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    colors = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "0.5")
    for (name, (losses, _)), color in zip(results.items(), colors, strict=True):
        left.plot(range(1, len(losses) + 1), losses, "o-", color=color, label=name)
    left.set(xlabel="epoch", ylabel="mean loss", yscale="log")
    left.xaxis.get_major_locator().set_params(integer=True)
    right.barh(list(results), [100 * right for _, right in results.values()], color=colors)
    right.invert_yaxis()
    right.set(xlabel="accuracy on unseen images (%)")
    left.legend(fontsize=8)
    left.grid(alpha=0.3)
    right.grid(alpha=0.3, axis="x")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder with the files of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=4)
    main(**vars(parser.parse_args()))
