"""Calls that do not fit: what was passed, what there is, and what may have been meant."""

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from ..errors import ArgumentError, FuncoptError, HyperparameterError

F = TypeVar("F", bound=Callable[..., Any])


def explained(function: F) -> F:
    """Makes a call of `function` that does not fit say what would.

    Of a constructor it says so in the name of the class. Nothing is done before a call has failed.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except FuncoptError as error:
            name_caller(error, *_called(function, args, kwargs))
            raise
        except TypeError:
            wrong = _misfit(function, args, kwargs)
            if wrong is None:
                raise  # it is from within
        raise wrong  # not while handling the other, which would be shown too

    return cast(F, call)


def name_caller(error: BaseException, who: str, given: Mapping[str, Any], place: str = "") -> None:
    """Makes the error of a stage name what was called: the outermost of this library is last.

    Errors that are not of this library stay as they are, and of calls from within.

    Args:
        error: What a stage has raised.
        who: What was called.
        given: Its arguments. If one of another name holds the value that does not fit, as
            ``adamw_lr`` of `muon` does, the message has that name.
        place: Where they stand, such as ``of group 1``.
    """
    if not isinstance(error, FuncoptError) or isinstance(error, ArgumentError):
        return
    error.said = said = error.said or str(error)
    error.place = error.place or place
    owner = re.match(r"`([^`]+)`(: )?", said)
    if owner is None:
        error.args = (f"`{who}`: {said}",)
        return
    if owner[1].partition(".")[0] == who:
        return
    rest = said[owner.end() :] if owner[2] else said
    if isinstance(error, HyperparameterError) and error.argument is not None:
        meant = _argument(error.argument, error.value, given)
        rest = rest.replace(f"`{error.argument}`", f"`{meant}`", 1)
    within = f"`{who}`, in `{owner[1]}` {error.place}".rstrip()
    error.args = (f"{within}: {rest}" if owner[2] else f"`{who}`: {rest}",)


def _argument(name: str, value: Any, given: Mapping[str, Any]) -> str:
    """Which of the arguments `given` holds the value that a stage has as `name`."""
    found = [key for key, x in _flat(given) if _same(x, value)]
    return name if name in found or len(found) != 1 else found[0]


def _flat(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Arguments by name; also those in a dict, and each entry of a tuple."""
    out: list[tuple[str, Any]] = []
    for key, x in given.items():
        out.append((key, x))
        if isinstance(x, Mapping):
            out += _flat({str(k): v for k, v in x.items()})
            continue
        if isinstance(x, (tuple, list)):
            out += [(f"{key}[{i}]", entry) for i, entry in enumerate(x)]
    return out


def _same(a: Any, b: Any) -> bool:
    plain = (int, float, str)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):  # the latter become tuples
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or (isinstance(a, plain) and type(a) is type(b) and bool(a == b))


def _called(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """The name of what was called, and its arguments."""
    who, signature = function.__name__, inspect.signature(function)
    bound = signature.bind_partial(*args, **kwargs).arguments
    if who == "__init__":
        return type(args[0]).__name__, dict(list(bound.items())[1:])
    return who, bound


def _misfit(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> ArgumentError | None:
    """What to raise for a call that a function cannot take; `None` if it can."""
    who, signature = function.__name__, inspect.signature(function)
    if who == "__init__":
        who, args = type(args[0]).__name__, args[1:]
        _, *own = signature.parameters.values()
        signature = signature.replace(parameters=own)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return argument_error(who, signature, args, kwargs, error)
    return None


def argument_error(
    who: str,
    signature: inspect.Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    error: TypeError,
) -> ArgumentError:
    """What to raise where `signature.bind` has raised an error."""
    positional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
    known = [p.name for p in signature.parameters.values() if p.kind not in positional]
    unknown = [key for key in kwargs if key not in known]
    wrong = str(error)
    if unknown:
        wrong = f"unknown argument{'s' * (len(unknown) > 1)} {listed(unknown)}"
    meant = suggestions(unknown, known)
    if any(isinstance(x, types.GeneratorType) for x in args) and "params" not in known:
        meant += suggestions(["params"], known)
    takes = f"It takes {_shown(signature)}."
    return ArgumentError(f"`{who}`: {' '.join([f'{wrong}.', *meant, takes])}")


def suggestions(unknown: Iterable[str], known: Iterable[str]) -> list[str]:
    """Sentences that say what unknown names may mean: a word of other libraries, or a slip."""
    from .keywords import KEYWORDS  # once there is a mistake
    from .nearest import nearest

    known = list(known)
    said: dict[tuple[str, str], list[str]] = {}
    slips = []
    for name in unknown:
        keyword = KEYWORDS.get(name)
        if keyword is not None and (here := keyword.among(known)):
            said.setdefault((keyword.of, here), []).append(name)
        elif other := nearest(name, known):
            slips.append(f"Did you mean `{other}`?")
    sentences = []
    for (of, here), names in said.items():
        be = "is" if len(names) == 1 else "are"
        sentences.append(f"{listed(names, ' and ')} {be} {of}: here {here}.")
    return sentences + slips


def synonym(name: str, known: Iterable[str]) -> str | None:
    """The known name of what another library calls `name`."""
    from .keywords import KEYWORDS

    keyword = KEYWORDS.get(name)
    return None if keyword is None else next((k for k in known if k in keyword.here), None)


def listed(names: Iterable[str], between: str = ", ") -> str:
    return between.join(f"`{name}`" for name in names)


def _shown(signature: inspect.Signature) -> str:
    """The arguments and their defaults, without annotations."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))
