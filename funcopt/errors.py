"""One exception type for each kind of mistake; each is also the built-in that fits it."""

__all__ = [
    "ArgumentError",
    "DerivativeError",
    "DonatedError",
    "ExtraArgumentError",
    "FuncoptError",
    "HyperparameterError",
    "LabelError",
    "LeafError",
    "MissingParamsError",
    "ModeError",
    "SparseGradientError",
    "StructureError",
    "TiedParametersError",
]


class FuncoptError(Exception):
    """The base class of all exceptions of this library."""

    said: str | None = None
    """The message of the stage that does not fit, without what was called."""

    place: str = ""
    """Where the value stands, such as a group, if that is known."""


class HyperparameterError(FuncoptError, ValueError):
    """A hyperparameter is out of range, unknown, or of the wrong kind."""

    argument: str | None = None
    """The name of the hyperparameter in the stage."""

    value: object = None
    """What it was given."""


class ArgumentError(FuncoptError, TypeError):
    """A call has an argument that it does not take, one too many, or one too few."""


class DerivativeError(FuncoptError, RuntimeError):
    """A derivative is asked for that is zero everywhere: nothing depends on what it is taken by."""


class LeafError(FuncoptError, TypeError):
    """A leaf of the parameters or gradients cannot be optimized: its kind, dtype or layout."""


class TiedParametersError(FuncoptError, ValueError):
    """Two leaves of the parameters are the same memory."""


class StructureError(FuncoptError, ValueError):
    """Two trees that belong together differ in structure, or two of their leaves in shape."""


class MissingParamsError(FuncoptError, ValueError):
    """A transformation that needs the parameters was not given them."""


class ExtraArgumentError(FuncoptError, TypeError):
    """An extra argument of `update` is missing, or no stage takes it."""


class SparseGradientError(FuncoptError, RuntimeError):
    """A sparse gradient reached a rule that cannot take one."""


class ModeError(FuncoptError, RuntimeError):
    """A call is not allowed in this mode, such as a step while the parameters are averages."""


class LabelError(FuncoptError, ValueError):
    """A parameter has no label, a label no transformation, or a pattern fits no parameter."""


class DonatedError(FuncoptError, RuntimeError):
    """A tensor that was donated to a step is used again."""
