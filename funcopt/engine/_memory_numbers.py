"""The memory of a step as numbers that lie here: counts, and numbers in float64."""

import array
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class MemoryNumbers:
    """Numbers side by side: whole ones, and such as float64 has.

    Args:
        values: What they are; by their types, what each of them will be.
    """

    def __init__(self, values: Sequence[int | float] = ()) -> None:
        self.words = array.array("q", bytes(8 * len(values)))
        self.numbers = memoryview(self.words).cast("B").cast("d")
        """The same memory, read in float64."""

        self.whole = [isinstance(x, int) for x in values]
        for k, x in enumerate(values):
            self[k] = x

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[int | float]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> int | float:
        return (self.words if self.whole[k] else self.numbers)[k]

    def __setitem__(self, k: int, value: Any) -> None:
        view: Any = self.words if self.whole[k] else self.numbers
        view[k] = value

    def text(self, k: int) -> str:
        """How a program has one of them."""
        return f"{'words' if self.whole[k] else 'numbers'}[{k}]"

    def tensor(self, k: int) -> Tensor:
        """One of them as a tensor, in the same memory."""
        dtype = torch.int64 if self.whole[k] else torch.float64
        return torch.frombuffer(self.words, dtype=dtype, count=1, offset=8 * k).reshape(())

    def arrays(self) -> dict[str, Any]:
        """Where a program has them from."""
        return {"words": self.words, "numbers": self.numbers}
