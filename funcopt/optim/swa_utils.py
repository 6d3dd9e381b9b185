"""The averages of torch, which work on our optimizers too."""

from torch.optim.swa_utils import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]
