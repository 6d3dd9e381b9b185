"""The schedulers of torch, which work on our optimizers too."""

from torch.optim.lr_scheduler import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]
