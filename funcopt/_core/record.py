"""Records: immutable, printable, comparable, picklable bags of hyperparameters.

A transformation or a schedule *is* its hyperparameters plus one or two pure methods. Subclassing
`Record` is all it takes to get the rest:

    >>> class halve(Record):
    ...     factor: float = 0.5
    >>> halve().replace(factor=0.25)
    halve(factor=0.25)

Record classes have lower-case names because they are called like functions; the same choice was
made for `functools.partial`, `itertools.chain` and `torch.no_grad`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import torch
from torch import Tensor

from .._hints.calls import explained
from ..errors import ArgumentError
from . import checks

Check = Callable[[object, str, Any], None]

PLAIN: Mapping[Any, Check] = {
    bool: checks.switch,
    torch.dtype: checks.dtype,
    torch.dtype | None: checks.dtype,
}
"""What fields of these types are checked for, in every record."""


@dataclass_transform(frozen_default=True)
class Record:
    """Base class: every subclass becomes a frozen dataclass, without a decorator.

    `repr` is the call that rebuilds the record: required arguments bare, options by keyword and
    only where they differ from their defaults, tensors exactly and with their dtype. A lambda or a
    local function prints as what it is, and neither rebuilds nor pickles.
    """

    _plain: ClassVar[tuple[tuple[str, Check], ...]] = ()
    """The fields that are structure, by their annotations: switches and dtypes."""

    _names: ClassVar[tuple[str, ...]] = ()
    """Those of all fields."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_bare_defaults(cls)
        dataclasses.dataclass(frozen=True, repr=False, eq=False)(cls)
        cls._names = tuple(x.name for x in dataclasses.fields(cls))  # type: ignore[arg-type]
        cls._plain = _plain_fields(cls)
        if "__init__" in cls.__dict__:
            cls.__init__ = explained(_checked(cls.__init__))  # type: ignore[method-assign]

    def replace(self, **changes: Any) -> Self:
        """Returns a copy in which the named fields have new values.

        Raises:
            ArgumentError: If there is no such field.
        """
        if not changes.keys() <= set(self._names):
            return dataclasses.replace(self, **changes)  # type: ignore[type-var]  # says what fits
        # Not by the constructor: torch 2.11 cannot trace one with a record among its defaults.
        made: Self = unchecked(self, changes)
        check_plain(made)
        if (check := getattr(type(made), "__post_init__", None)) is not None:
            check(made)
        return made

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(values_equal(a, b) for a, b in zip(_values(self), _values(other), strict=True))

    def __hash__(self) -> int:
        return hash((type(self), tuple(_hashable(value) for value in _values(self))))

    if not TYPE_CHECKING:  # to which it would be that of the class too

        @property
        def __name__(self) -> str:
            """The name of the function that it is called like, for the messages of `torch.func`."""
            return type(self).__name__

    def __repr__(self) -> str:
        return call_repr(type(self).__name__, _arguments(self))


def _plain_fields(cls: Any) -> tuple[tuple[str, Check], ...]:
    fields = dataclasses.fields(cls)
    return tuple((x.name, PLAIN[x.type]) for x in fields if x.type in list(PLAIN))


def check_plain(record: Any) -> None:
    """Refuses a switch that is no bool, and a dtype that is none."""
    for name, check in record._plain:
        check(record, name, getattr(record, name))


def _checked(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        check_plain(self)

    return call


def call_repr(name: str, arguments: list[str], *, width: int = 80) -> str:
    """Formats ``name(arguments)``, one argument per line if one line is not enough."""
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= width and "\n" not in line:
        return line
    body = ",\n".join(arguments).replace("\n", "\n    ")
    return f"{name}(\n    {body},\n)"


def value_repr(value: Any) -> str:
    """`repr`, but of tensors, dtypes and infinities too it is code that makes them again."""
    if isinstance(value, Tensor):
        return _tensor_repr(value)
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if type(value) is tuple:
        inside = ", ".join(map(value_repr, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if type(value) is list:
        return f"[{', '.join(map(value_repr, value))}]"
    if type(value) is dict:
        return "{" + ", ".join(f"{k!r}: {value_repr(v)}" for k, v in value.items()) + "}"
    if callable(value) and not isinstance(value, Record) and hasattr(value, "__qualname__"):
        return str(value.__qualname__)
    return repr(value)


def _tensor_repr(value: Tensor) -> str:
    try:
        numbers = value.tolist()
    except RuntimeError:  # inside vmap or a trace there are no numbers to print
        return f"<tensor of {value.dtype}>"
    device = "" if value.device.type == "cpu" else f', device="{value.device}"'
    return f"torch.tensor({value_repr(numbers)}, dtype={value.dtype}{device})"


def _values(record: Record) -> list[Any]:
    # The compiler of torch 2.11 asks a record that it is still making, for its hash.
    return [getattr(record, f.name, None) for f in dataclasses.fields(record)]  # type: ignore[arg-type]


def _arguments(record: Record) -> list[str]:
    arguments = []
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if field.default is dataclasses.MISSING:
            arguments.append(value_repr(value))
        elif not values_equal(value, field.default):
            arguments.append(f"{field.name}={value_repr(value)}")
    return arguments


def unchecked(record: Any, values: Mapping[str, Any]) -> Any:
    """`record.replace(**values)` without the range checks: values of a schedule, maybe traced."""
    made = object.__new__(type(record))
    for name in record._names:  # one by one: torch 2.11 cannot trace `__dict__`
        value = values[name] if name in values else getattr(record, name)
        object.__setattr__(made, name, value)
    return made


def values_equal(a: Any, b: Any) -> bool:
    """Whether two fields are equal: tensors in dtype and value."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(values_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(values_equal(a[k], b[k]) for k in a)
    return bool(a == b)


def _hashable(value: Any) -> Any:
    if isinstance(value, Tensor):  # equal by value, but values cannot be hashed: they may be traced
        return ("tensor", value.dtype)
    if isinstance(value, (tuple, list)):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple((k, _hashable(v)) for k, v in sorted(value.items(), key=repr))
    return value


def _refuse_bare_defaults(cls: type) -> None:
    """Refuses a class that assigns to a field of its base: without annotation, that is no default.

    Raises:
        ArgumentError: If there is one.
    """
    bases, own = filter(dataclasses.is_dataclass, cls.__mro__[1:]), vars(cls)
    fields = {field.name for base in bases for field in dataclasses.fields(base)}
    for name in fields.intersection(own) - own.get("__annotations__", {}).keys():
        if not isinstance(own[name], (property, functools.cached_property)):
            raise ArgumentError(
                f"`{cls.__name__}`: `{name}` is a field, and an assignment does not change its "
                f"default. Declare it again: `{name}: Scalar = {own[name]!r}`, with its annotation."
            )
