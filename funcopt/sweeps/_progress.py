"""A progress bar, where somebody looks."""

from typing import Any


class Silent:
    def update(self) -> None: ...

    def close(self) -> None: ...


class Bar:
    """A progress bar over all steps of all chunks, where there is tqdm and somebody looks."""

    def __init__(self, wanted: bool, batches: Any, chunks: int) -> None:
        self.bar: Any = Silent()
        if not wanted:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        steps = len(batches) if hasattr(batches, "__len__") else None
        total = None if steps is None else steps * chunks
        self.bar = tqdm(total=total, unit="step", mininterval=0.5, disable=None)

    def __enter__(self) -> Any:
        return self.bar

    def __exit__(self, *error: Any) -> None:
        self.bar.close()
