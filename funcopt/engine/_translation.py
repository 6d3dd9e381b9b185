"""Translation: a lowered graph as a list of instructions, each on registers.

It is the same for every machine: that of the CPU, which takes one instruction after
the other (`_bytecode`), and a GPU, for which they are printed (`triton`).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from .._numerics.primitive import instruction_of
from ._calls import Call, Input, Ref, op_name
from ._guards import Unsupported
from ._instructions import (
    ARITY,
    CASTS,
    COMMUTATIVE,
    FILLS,
    FLAGS,
    LOGICAL,
    NARROW,
    POWERS,
    PRIMITIVES,
    REDUCTIONS,
    REVERSED,
    SHARED,
    STORED,
    SYNONYMS,
    WHOLE,
)
from ._lowering import LoweredGraph
from ._meta_inference import TensorMeta, infer


class Register(NamedTuple):
    """A block of entries, by its kind and its number within that."""

    kind: str
    number: int


KINDS = ("tensor", "scalar", "constant", "uniform", "value")
"""Of registers: a uniform one holds one number, that follows from scalars alone."""


VARYING = ("tensor", "value")


class Instruction(NamedTuple):
    """An operation on registers."""

    code: str
    to: Register
    args: tuple[Register, ...]
    measure: int = 0  # that a reduction belongs to

    def renamed(self, names: Mapping[Register, Register]) -> "Instruction":
        """The same with other registers."""
        args = tuple(names.get(x, x) for x in self.args)
        return self._replace(to=names.get(self.to, self.to), args=args)


class Operand(NamedTuple):
    """What a value of the graph is for the machine: a register, or a reduction times a factor."""

    register: Register
    meta: Any  # a `TensorMeta`; for a number of Python, one of its type
    reduction: str = ""
    factor: Any = None


class Measure(NamedTuple):
    """What is measured of a tensor: a reduction over its entries, times a factor."""

    code: str
    register: Register
    factor: Register | None


class Listing(NamedTuple):
    """Instructions in order, and what becomes of their results."""

    dtype: torch.dtype  # of all registers but the tensors
    tensors: tuple[Input, ...]
    scalars: int
    constants: tuple[float, ...]
    uniform: tuple[Instruction, ...]  # those of numbers, once for each row of scalars
    body: tuple[Instruction, ...]  # those of entries
    writes: tuple[tuple[int, Register], ...]  # the tensor that is overwritten, and by which value
    measures: tuple[Measure, ...]

    def only_written(self) -> list[int]:
        """The tensors that are overwritten, and that nothing reads."""
        read = {x for one in (*self.uniform, *self.body) for x in one.args}
        read.update(x for _, x in self.writes)
        read.update(x.register for x in self.measures)
        return [k for k, _ in self.writes if Register("tensor", k) not in read]


def storage(x: Input, own: torch.dtype) -> str:
    """How a tensor is stored, as conversions call it; "" if it is as in registers.

    Raises:
        Unsupported: If there is no conversion.
    """
    if x.per == 1 and x.dtype is own:
        return ""
    found = STORED.get(x.dtype) if x.per == 1 else SHARED.get((x.dtype, x.per))
    if found is None:
        raise Unsupported(f"tensors of {x.dtype}" + f", one for {x.per} entries" * (x.per > 1))
    return found


def translate(lowered: LoweredGraph) -> Listing:
    """The instructions of a lowered graph.

    Raises:
        Unsupported: If there is no instruction for something in it.
    """
    translator = _Translator(lowered)
    for call in lowered.calls:
        translator.translate(call)
    return translator.listing()


def translate_scalars(lowered: LoweredGraph, metas: Sequence[Any]) -> Listing:
    """The same of a graph of 0-d tensors, whose results are its measures.

    All is computed in float64, and rounded after each operation in a narrower dtype: as good as to
    compute in that. Whole numbers are exact up to 2^53. `metas` are of its scalars: numbers, too.

    Raises:
        Unsupported: As above.
    """
    translator = _Translator(lowered, metas)
    for call in lowered.calls:
        translator.translate(call)
    return translator.scalar_listing()


class _Translator:
    """Translates the calls of a graph one by one; each value gets a register of its own."""

    def __init__(self, lowered: LoweredGraph, metas: Sequence[Any] | None = None) -> None:
        self._lowered, self._wide = lowered, lowered.compute_dtype
        self._of_scalars = metas is not None
        if self._wide not in (torch.float32, torch.float64):
            raise Unsupported(f"the compute dtype {self._wide}")
        tensors = [TensorMeta(x.dtype, True) for x in lowered.inputs]
        scalars = metas or [TensorMeta(self._wide, False)] * lowered.num_scalars
        self._values = [
            *(Operand(Register("tensor", k), x) for k, x in enumerate(tensors)),
            *(Operand(Register("scalar", k), x) for k, x in enumerate(scalars)),
        ]
        self._stored = [storage(x, self._wide) for x in lowered.inputs]
        self._loaded: dict[int, Register] = {}  # tensors in the compute dtype
        self._constants: dict[str, int] = {}  # by their text, since zeros have signs
        self._uniform: list[Instruction] = []
        self._body: list[Instruction] = []
        self._count = itertools.count()

    def translate(self, call: Call) -> None:
        """Adds the instructions of a call."""
        name = op_name(call.func).strip("_")
        args, kwargs = [self._value(x) for x in call.args], dict(call.kwargs)
        if name in REVERSED:
            args.reverse()
        if name == "where" and hasattr(call.func, "__objclass__"):  # a method, of the first choice
            args[:2] = args[1::-1]
        name = REVERSED.get(name, SYNONYMS.get(name, name))
        inferred = infer(call.func, self._metas(call.args), self._metas(kwargs))
        given = [x for x in args if isinstance(x, Operand) and isinstance(x.meta, TensorMeta)]
        if inferred.argument is not None:
            value = given[inferred.argument]
        elif inferred.meta is None:
            raise Unsupported(f"`{name}`: {inferred.error}")
        elif getattr(call.func, "is_primitive", False):
            value = self._primitive(call.func, args, inferred.meta)
        elif any(x.reduction for x in given):
            value = self._scaled(name, args, inferred.meta)
        elif name in REDUCTIONS and len(args) == 1 and not kwargs:
            value = self._reduction(name, args[0], inferred.meta)
        elif name in CASTS:
            value = self._cast(args[0], inferred.meta)
        else:
            value = self._operation(name, args, kwargs, inferred.meta)
        self._values.append(value)

    def _value(self, x: Any) -> Any:
        return self._values[x.at] if isinstance(x, Ref) else x

    def _metas(self, x: Any) -> Any:
        if isinstance(x, Ref):
            return self._values[x.at].meta
        if isinstance(x, dict):
            return {k: self._metas(v) for k, v in x.items()}
        return tuple(map(self._metas, x)) if isinstance(x, tuple) else x

    def _operation(
        self, name: str, args: list[Any], kwargs: dict[str, Any], meta: TensorMeta
    ) -> Operand:
        flags = [getattr(getattr(x, "meta", None), "dtype", None) is torch.bool for x in args]
        if name in LOGICAL and not all(flags):
            raise Unsupported(f"`{name}` of numbers")
        moves = name == "where" and meta.dtype in WHOLE
        if meta.dtype is torch.bool:
            if name not in (*FLAGS, "isinf", "where"):
                raise Unsupported(f"`{name}` of flags")
        elif meta.dtype is not self._wide and not (self._of_scalars or moves):
            raise Unsupported(f"`{name}` in {meta.dtype}")
        options = {k: self._value(v) for k, v in kwargs.items()}
        name, args = self._simplified(name, args, options)
        if options or ARITY.get(name) != len(args):
            raise Unsupported(f"`{name}` of {len(args)} arguments and {sorted(options)}")
        register = self._emit(name, *args)
        if meta.dtype in (torch.bool, torch.int64, self._wide, *WHOLE):
            return Operand(register, meta)
        return self._cast(Operand(register, TensorMeta(self._wide, meta.is_vector)), meta)

    def _primitive(self, func: Any, args: list[Any], meta: TensorMeta) -> Operand:
        """A function of ours that is one instruction."""
        code = instruction_of(func, args)
        given = [x for x in args if isinstance(x, Operand)]
        if code not in PRIMITIVES or self._wide is not torch.float32:
            raise Unsupported(f"`{code}` in {self._wide}")
        if code == "bits16":  # of its first argument, only the length counts
            return Operand(self._emit(code, *given[1:], varies=True), meta)
        if code.startswith("block_amax") and given[0].register.kind not in VARYING:
            return Operand(self._emit("abs", *given), meta)
        return Operand(self._emit(code, *given), meta)

    def _simplified(
        self, name: str, args: list[Any], options: dict[str, Any]
    ) -> tuple[str, list[Any]]:
        """The same by an instruction; `options` that have been taken account of are removed."""
        match name, args:
            case "zeros_like" | "ones_like", [_]:
                return "copy", [FILLS[name]]
            case "full_like" | "full", [_, fill]:
                options.pop("dtype", None)
                return "copy", [fill]
            case "add" | "sub", [x, y] if "alpha" in options:
                alpha = options.pop("alpha")
                return "fmadd", [y, alpha if name == "add" else self._emit("neg", alpha), x]
            case "addcmul" | "addcdiv", [x, y, z]:
                scaled = self._emit("mul", y, options.pop("value", 1.0))
                if name == "addcmul":
                    return "fmadd", [scaled, z, x]
                return "add", [x, self._emit("div", scaled, z)]
            case "isinf", [x]:
                return "eq", [self._emit("abs", x), math.inf]
            case "masked_fill", [x, mask, fill]:
                return "where", [mask, fill, x]
            case "pow", [x, int() | float() as exponent] if exponent in POWERS:
                return POWERS[exponent], [x]
            case "amax", [x, y]:
                return "maximum", [x, y]
            case "amin", [x, y]:
                return "minimum", [x, y]
            case "clamp_min", [x, low]:
                return "maximum", [x, low]
            case "clamp_max", [x, high]:
                return "minimum", [x, high]
            case "clamp", [x, *bounds]:
                given = dict(zip(("min", "max"), bounds, strict=False))
                low, high = (options.pop(k, given.get(k)) for k in ("min", "max"))
                if high is None:
                    return "maximum", [x, low]
                return ("minimum", [x, high]) if low is None else ("clamp", [x, low, high])
        return name, args

    def _cast(self, x: Operand, meta: TensorMeta) -> Operand:
        """A tensor in another dtype: the machine holds everything in the compute dtype."""
        register, was = self._register(x), x.meta.dtype
        if meta.dtype is torch.bool:
            return Operand(self._emit("ne", register, 0.0), meta)
        whole = meta.dtype is torch.int64 and was in (torch.bool, torch.int64)
        if meta.dtype in (self._wide, torch.float64) or (was, meta.dtype) in EXACT or whole:
            return Operand(register, meta)
        if meta.dtype not in NARROW:
            raise Unsupported(f"a cast to {meta.dtype}")
        return Operand(self._emit(f"round_{NARROW[meta.dtype]}", register), meta)

    def _reduction(self, name: str, x: Operand, meta: TensorMeta) -> Operand:
        """A reduction within one tensor, which is made where all is known that is measured."""
        counts = x.meta.dtype is torch.bool and name == "sum"
        if not counts and meta.dtype not in (self._wide, torch.float64):
            raise Unsupported(f"`{name}` in {meta.dtype}")
        return Operand(self._register(x), meta, name)

    def _scaled(self, name: str, args: list[Any], meta: TensorMeta) -> Operand:
        """A reduction in another dtype, or times a scalar."""
        ordered = sorted(args, key=lambda x: not (isinstance(x, Operand) and x.reduction))
        x: Operand = ordered[0]
        others = ordered[1:]
        if name in (*CASTS, "reshape"):
            return x._replace(meta=meta)
        if name == "neg":
            others = [-1.0]
        elif name != "mul" or len(others) != 1:
            raise Unsupported(f"`{name}` of a {x.reduction} within one tensor")
        factor = others[0] if x.factor is None else self._emit("mul", x.factor, others[0])
        return x._replace(meta=meta, factor=self._register(factor))

    def _emit(self, code: str, *args: Any, varies: bool = False) -> Register:
        """Adds an instruction, and returns the register that it writes."""
        given = tuple(map(self._register, args))
        uniform = not varies and not any(x.kind in VARYING for x in given)
        if code in COMMUTATIVE and given[0].kind not in VARYING:
            given = given[::-1]  # the machine is faster where the last one is uniform
        to = Register("uniform" if uniform else "value", next(self._count))
        (self._uniform if uniform else self._body).append(Instruction(code, to, given))
        return to

    def _register(self, x: Any) -> Register:
        """The register of a value or of a number."""
        if isinstance(x, Operand):
            if x.reduction:
                raise Unsupported(f"a {x.reduction} within one tensor")
            x = x.register
            return self._load(x.number) if x.kind == "tensor" and self._stored[x.number] else x
        if isinstance(x, Register):
            return x
        if not isinstance(x, (int, float)):
            raise Unsupported(f"the argument {x!r}")
        text = repr(float(x))
        return Register("constant", self._constants.setdefault(text, len(self._constants)))

    def _load(self, k: int) -> Register:
        """The register of a tensor of another dtype, which is widened once."""
        if k not in self._loaded:
            self._loaded[k] = Register("value", next(self._count))
            load = f"load_{self._stored[k]}"
            self._body.append(Instruction(load, self._loaded[k], (Register("tensor", k),)))
        return self._loaded[k]

    def scalar_listing(self) -> Listing:
        """All of it, where everything is 0-d: what is measured is written."""
        results = [self._values[ref.at] for ref in self._lowered.measures]
        return Listing(
            self._wide,
            (),
            self._lowered.num_scalars,
            tuple(map(float, self._constants)),
            tuple(self._uniform),
            (),
            tuple((k, self._register(x)) for k, x in enumerate(results)),
            (),
        )

    def listing(self) -> Listing:
        """All of it, when every call is translated."""
        lowered = self._lowered
        measured = [self._values[ref.at] for ref in lowered.measures]
        if not all(x.reduction for x in measured):
            raise Unsupported("a measure that is no reduction over entries")
        writes = tuple((k, self._register(self._values[ref.at])) for k, ref in lowered.writes)
        return Listing(
            self._wide,
            lowered.inputs,
            lowered.num_scalars,
            tuple(map(float, self._constants)),
            tuple(self._uniform),
            tuple(self._body),
            writes,
            tuple(Measure(x.reduction, x.register, x.factor) for x in measured),
        )


EXACT = {
    (torch.bool, torch.float32),
    (torch.bool, torch.bfloat16),
    (torch.bool, torch.float16),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float32),
}
"""Casts that change no value."""
