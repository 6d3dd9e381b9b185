"""Tasks small enough for a laptop: handwritten digits, and the next letter of Python source."""

import math
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Batch = tuple[Tensor, Tensor]


class Task(NamedTuple):
    """Something to learn."""

    name: str
    steps: int  # the budget of steps
    model: Callable[[], nn.Module]  # with the same numbers on every call, for one seed of torch
    batches: Callable[[int, int], Iterator[Batch]]  # of (seed, steps)
    validation: Batch  # to choose the setting by
    test: Batch  # to report
    search: tuple[int, ...] = (0,)  # seeds of the trainings by which a setting is chosen


def digits(steps: int = 300) -> Task:
    """1,797 images of 8 x 8 pixels and a small convolutional network."""
    images, labels = load_digits(return_X_y=True)
    pixels = images.reshape(-1, 1, 8, 8).astype("float32") / 16
    x, x_rest, y, y_rest = train_test_split(
        pixels, labels, test_size=0.4, random_state=0, stratify=labels
    )
    parts = train_test_split(x_rest, y_rest, test_size=0.5, random_state=0, stratify=y_rest)
    x_valid, x_test, y_valid, y_test, x, y = map(torch.from_numpy, (*parts, x, y))

    def batches(seed: int, steps: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            picked = torch.randint(len(x), (64,), generator=generator)
            yield x[picked], y[picked]

    held_out = (x_valid, y_valid), (x_test, y_test)
    return Task("digits", steps, _convolutions, batches, *held_out, search=(0, -1, -2))


def letters(
    steps: int = 300, length: int = 32, windows: int = 8, width: int = 64, name: str = "letters"
) -> Task:
    """The standard library of the running Python, byte by byte, and a small transformer."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    train, valid, test = map(
        _text, (files[::5] + files[1::5] + files[2::5], files[3::5], files[4::5])
    )

    def drawn(text: Tensor, count: int, generator: torch.Generator) -> Batch:
        start = torch.randint(len(text) - length - 1, (count, 1), generator=generator)
        window = text[start + torch.arange(length + 1)]
        return window[:, :-1], window[:, 1:]

    def batches(seed: int, steps: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            yield drawn(train, windows, generator)

    valid, test = (drawn(part, 128, torch.Generator().manual_seed(0)) for part in (valid, test))
    return Task(name, steps, lambda: _Transformer(length, width), batches, valid, test)


def letters_1m(steps: int = 300) -> Task:
    """The letters, with matrices of 192 rows and more, a million entries together."""
    return letters(steps, windows=16, width=192, name="letters_1m")


TASKS = {"digits": digits, "letters": letters, "letters_1m": letters_1m}
"""In this order they are computed."""


def _text(files: list[Path]) -> Tensor:
    """The bytes of some files; what is not ASCII becomes one letter."""
    joined = bytearray(b"".join(f.read_bytes() for f in files))
    return torch.frombuffer(joined, dtype=torch.uint8).clamp(max=127).long()


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy, in nats per image or letter."""
    return cross_entropy(logits.flatten(0, -2), target.flatten())


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


class _Transformer(nn.Module):
    """Two blocks of four heads; the head, which predicts, is a matrix of its own."""

    def __init__(self, length: int, width: int, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(128, width)
        self.position_embedding = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(_Block(length, width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 128, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 if "embedding" in name else 1 / math.sqrt(p.shape[1]))

    def forward(self, letters: Tensor) -> Tensor:
        x = self.token_embedding(letters) + self.position_embedding.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class _Block(nn.Module):
    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("future", torch.ones(length, length).triu(1).bool(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.movedim(-3, 0).transpose(-3, -2)  # heads before places
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(self.future, -torch.inf)
        x = x + self.out((scores.softmax(-1) @ v).transpose(-3, -2).flatten(-2))
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))
