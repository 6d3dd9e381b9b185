"""What to write for a hyperparameter of a transformation that is no field of its own."""

from typing import Any

FUNCTIONS = {
    "hyperparams": "`hyperparams(tx)`",
    "hyperparameters": "`hyperparams(tx)`",
    "with_hyperparams": "`with_hyperparams(tx, lr=...)`",
    "param_groups": "`hyperparams(tx)` in the pure form, `Optimizer(params, tx)` for groups",
    "state_dict": "`state_dict(state)`",
    "load_state_dict": "`load_state_dict(state, loaded)`",
    "detach": "`detach_state(state)`",
    "to": "`tree.map(lambda x: x.to(device), state)`",
    "eval_params": "`eval_params(tx, state, params)`",
    "apply_updates": "`apply_updates(params, updates)`",
    "metrics": "`update_with_metrics(tx, updates, state, params)`",
}
"""What other libraries have as an attribute, and is a function here."""


def of_state(state: Any, name: str) -> str:
    """The message for an attribute that a state does not have."""
    said = f"`{type(state).__name__}` has no attribute `{name}`"
    inner = state.opt_state if "opt_state" in state._fields else None
    if name in getattr(type(inner), "_fields", ()):
        return f"{said}; the optimizer state has it: `state.opt_state.{name}`."
    if name in FUNCTIONS:
        return f"{said}; it is a function: {FUNCTIONS[name]}."
    return (
        f"{said}; it has {', '.join(f'`{field}`' for field in state._fields)}. Hyperparameters, "
        "such as `lr`, are no state: `hyperparams(tx)` reads them."
    )


def of_chain(tx: Any, name: str) -> str:
    """The message for an attribute that a transformation does not have."""
    who = type(tx).__name__
    said = f"`{who}` has no attribute `{name}`"
    owners = [
        x for child in tx.children().values() for x in _below(child) if name in x.hyperparameters
    ]
    if not owners and name in FUNCTIONS:
        return f"{said}; it is a function: {FUNCTIONS[name]}."
    if not owners:
        return f"{said}."
    return (
        f"{said}; it is a hyperparameter of `{type(owners[0]).__name__}` inside: "
        f"`hyperparams(tx)[{name!r}]` reads it, `with_hyperparams(tx, {name}=...)` sets it."
    )


def _below(tx: Any) -> list[Any]:
    return [tx, *(x for child in tx.children().values() for x in _below(child))]
