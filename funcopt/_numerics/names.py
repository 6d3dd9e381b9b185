"""Names of parameters, without what wrappers of modules put into them."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

WRAPPERS = re.compile(
    r"(?<![^./])(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""What torch's own checkpoints leave out: `torch.compile`, data parallelism, FSDP, and activation
checkpointing."""

Name = TypeVar("Name", str, None, str | None)


def plain_name(name: Name) -> Name:
    """The name that a parameter has in the model itself: that of labels, patterns, checkpoints.

    >>> plain_name("_orig_mod.encoder.module.weight")
    'encoder.weight'
    """
    return name if name is None else WRAPPERS.sub("", name)  # pyright: ignore[reportReturnType]


def plain_names(names: Sequence[Name]) -> list[Name]:
    """The same for all parameters at once, by which they are distinguished.

    Where two would have the same name, as those of a layer and of its own part `module`, both keep
    what they were given.
    """
    plain = [plain_name(name) for name in names]
    count = Counter(plain)
    return [new if count[new] == 1 else name for new, name in zip(plain, names, strict=True)]
