"""One exception type for each kind of mistake; each is also the built-in that fits it."""


class HyperparameterError(ValueError):
    """A hyperparameter is out of its range, unknown, or not what the place takes."""


class LeafError(TypeError):
    """A leaf of the parameters or gradients cannot be optimised: its kind, dtype or layout."""


class TiedParametersError(ValueError):
    """Two leaves of the parameters are the same memory."""


class StructureError(ValueError):
    """Two trees that belong together differ in structure, or two of their leaves in shape."""


class MissingParamsError(ValueError):
    """A transformation that needs the parameters was not given them."""


class ExtraArgumentError(TypeError):
    """An extra argument of `update` is missing, or no stage knows it."""


class SparseGradientError(RuntimeError):
    """A sparse gradient reached a rule that cannot take one."""


class LabelError(ValueError):
    """A parameter has no label, a label no transformation, or a pattern fits no parameter."""
