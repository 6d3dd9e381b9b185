"""Where an engine, which is built on top of this, takes over the pure form."""

from collections.abc import Callable
from typing import Any

fused_update: Callable[..., Any] | None = None
"""`(tx, updates, state, params, extra, applies)`: returns updates, state and node of a pass, or
`None` if it is to be made operation by operation. The next update may change the node. If it
`applies` the updates, new parameters come in their place."""

fused_sum: Callable[..., Any] | None = None
"""`(params, updates)`: returns their sums, or `None` if they are to be made one by one."""
