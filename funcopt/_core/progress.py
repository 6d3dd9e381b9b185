"""A progress bar, shown on interactive terminals and in notebooks."""

from typing import Any


class Silent:
    """A bar that shows nothing."""

    def update(self) -> None: ...

    def close(self) -> None: ...


class Bar:
    """A progress bar over so many steps, where there is tqdm; in a notebook, that of notebooks.

    Args:
        wanted: Whether to show it at all.
        total: How many steps there are; `None` if that is not known.
    """

    def __init__(self, wanted: bool, total: int | None) -> None:
        self.bar: Any = Silent()
        if not wanted:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        in_notebook = any(cls.__name__ == "tqdm_notebook" for cls in tqdm.__mro__)
        # None: only on a terminal, which the output of a notebook is not
        self.bar = tqdm(
            total=total, unit="step", mininterval=0.5, disable=False if in_notebook else None
        )

    def __enter__(self) -> Any:
        return self.bar

    def __exit__(self, *error: Any) -> None:
        self.bar.close()
