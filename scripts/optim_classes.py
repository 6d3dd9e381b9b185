"""Writes `funcopt/optim/_classes_*.py`: every class with its arguments, for editors and checkers.

    python scripts/optim_classes.py

The arguments are those of the class of torch, where there is one, and by keyword those that only
the function has of which the class is made; annotations are always those of the function. A test
compares the files with what this makes.
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent.parent / "funcopt" / "optim"

WIDTH, INDENT = 100, "    "

LIKE_TORCH = {  # the function that each class is made of; its arguments are those of torch's class
    "SGD": "sgd",
    "Adam": "adam",
    "AdamW": "adamw",
    "RMSprop": "rmsprop",
    "Adagrad": "adagrad",
    "Adadelta": "adadelta",
    "Adamax": "adamax",
    "NAdam": "nadam",
    "RAdam": "radam",
    "Adafactor": "adafactor",
    "ASGD": "asgd",
    "Rprop": "rprop",
    "LBFGS": "of_torch",
}
FAMILIES = {  # by file; where a class is not torch's, its arguments are those of the function
    "torch": LIKE_TORCH,
    "adam": {
        "AdaBelief": "adabelief",
        "Yogi": "yogi",
        "MARS": "mars",
        "LAMB": "lamb",
        "AdEMAMix": "ademamix",
        "GrokFastAdamW": "grokfast_adamw",
        "GrokAdamW": "grokadamw",
        "ADOPT": "adopt",
        "Adan": "adan",
        "StableAdamW": "stable_adamw",
        "NAdamW": "nadamw",
        "AdamaxW": "adamaxw",
        "AMSGrad": "amsgrad",
        "AdamC": "adamc",
        "LaProp": "laprop",
        "Ranger": "ranger",
        "QHAdam": "qhadam",
        "AdamP": "adamp",
        "AdaBound": "adabound",
        "DiffGrad": "diffgrad",
        "Padam": "padam",
        "Grams": "grams",
        "Ano": "ano",
        "AdaMod": "adamod",
    },
    "sgd": {
        "LARS": "lars",
        "Lion": "lion",
        "SGDW": "sgdw",
        "Signum": "signum",
        "SignSGD": "sign_sgd",
        "QHM": "qhm",
        "SGDP": "sgdp",
        "AggMo": "aggmo",
        "Tiger": "tiger",
    },
    "matrix": {
        "Muon": "muon",
        "NorMuon": "normuon",
        "AdaMuon": "adamuon",
        "NAMO": "namo",
        "Scion": "scion",
        "SOAP": "soap",
        "Sophia": "sophia",
        "Shampoo": "shampoo",
        "DistributedShampoo": "distributed_shampoo",
        "Kron": "kron",
    },
    "free": {
        "SGDScheduleFree": "schedule_free_sgd",
        "AdamWScheduleFree": "schedule_free_adamw",
        "Prodigy": "prodigy",
        "DAdaptAdamW": "dadapt_adamw",
        "RAdamScheduleFree": "schedule_free_radam",
        "DoG": "dog",
        "LDoG": "ldog",
        "DoWG": "dowg",
        "COCOB": "cocob",
        "PolyakSGD": "polyak_sgd",
        "MoMo": "momo",
        "MoMoAdam": "momo_adam",
    },
    "small": {
        "GaLoreAdamW": "galore_adamw",
        "GaLoreAdafactor": "galore_adafactor",
        "APOLLOAdamW": "apollo_adamw",
        "FiraAdamW": "fira_adamw",
        "CAME": "came",
        "AdamMini": "adam_mini",
        "SM3": "sm3",
        "T5Adafactor": "t5_adafactor",
        "RowwiseAdagrad": "rowwise_adagrad",
        "LazyAdam": "lazy_adam",
    },
    "optax": {
        "NovoGrad": "novograd",
        "MADGRAD": "madgrad",
        "ACProp": "acprop",
        "RMSpropTF": "rmsprop_tf",
        "SimplifiedAdEMAMix": "simplified_ademamix",
        "OptimisticGradientDescent": "optimistic_gradient_descent",
        "OptimisticAdam": "optimistic_adam",
        "Fromage": "fromage",
    },
}

TITLES = {
    "torch": "The classes of `torch.optim`: same names, arguments and steps.",
    "adam": "The classes of Adam's relatives, made of aliases.",
    "sgd": "The classes of SGD's relatives, and of methods by signs, made of aliases.",
    "matrix": "The classes of matrix preconditioners, made of aliases.",
    "free": "The Schedule-Free and learning-rate-free classes, made of aliases.",
    "small": "The classes with fewer second moments than entries, made of aliases.",
    "optax": "The classes of methods that Optax has, and PyTorch has not, made of aliases.",
}

EXECUTION = {  # what every class takes besides: annotation and default
    "maximize": ("bool", "False"),
    "foreach": ("bool | None", "None"),
    "capturable": ("bool", "False"),
    "differentiable": ("bool", "False"),
    "fused": ("bool | None", "None"),
    "max_grad_norm": ("Scalar | None", "None"),
    "ema": ("Scalar | None", "None"),
    "accumulate": ("int | None", "None"),
    "quantized": ("Format | None", "None"),
    "rounding": ("Rounding | None", "None"),
    "offload": ("bool", "False"),
    "engine": ("EngineOption", '"auto"'),
}
HEAD = '''"""{title}

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off
'''


def main() -> None:
    without_optim()
    for name, text in written().items():
        (FOLDER / name).write_text(text)


def without_optim() -> None:
    """Lets `funcopt` be imported while a function has an argument that its class has not yet."""
    stand_in = types.ModuleType("funcopt.optim")
    stand_in.__path__ = [str(FOLDER)]
    stand_in.__getattr__ = lambda name: None  # type: ignore[method-assign]
    sys.modules["funcopt.optim"] = stand_in
    sys.path.insert(0, str(FOLDER.parents[1]))


def written() -> dict[str, str]:
    """The files as they should be, by name."""
    return {f"_classes_{family}.py": one_file(family) for family in FAMILIES}


def one_file(family: str) -> str:
    made = [one_class(name, function(maker)) for name, maker in FAMILIES[family].items()]
    text = "".join(made)
    return HEAD.format(title=TITLES[family]) + imports(FAMILIES[family].values(), text) + text


def function(maker: str) -> Callable[..., Any]:
    module = "funcopt.optim._lbfgs" if maker == "of_torch" else "funcopt.aliases"
    found: Callable[..., Any] = getattr(importlib.import_module(module), maker)
    return found


def like(name: str) -> type | None:
    """The class of torch whose arguments it has."""
    found: type | None = getattr(torch.optim, name) if name in LIKE_TORCH else None
    return found


def imports(makers: Iterable[str], body: str) -> str:
    """What the classes need, in the order of ruff."""
    names = sorted({*makers} - {"of_torch"})
    types = [t for t in ("Literal",) if f"{t}[" in body]
    standard = "import math\n" * ("math." in body)
    standard += f"from typing import {', '.join(types)}\n" * bool(types)
    used = (x for x in ("Format", "Labels", "Rounding") if re.search(rf"\b{x}\b", body))
    labels = f"from ..combinators import {', '.join(used)}\n"
    line_search = "from ..transforms import LineSearch\n" * ("LineSearch" in body)
    every = ("Coefficients", "Normalization", "ParamsT", "Ratio", "Scalar")
    typed = (x for x in every if re.search(rf"\b{x}\b", body))
    of_torch = "from ._lbfgs import of_torch\n" * ("of_torch" in body)
    listed = "".join(f"    {name},\n" for name in names)
    return (
        f"\n{standard}\nimport torch\n\nfrom ..aliases import (\n{listed})\n{labels}"
        f"from ..engine import EngineOption\n{line_search}from ..typing import {', '.join(typed)}\n"
        f"from ._alias import AliasOptimizer\n{of_torch}"
    )


def one_class(name: str, maker: Callable[..., Any]) -> str:
    theirs = like(name)
    source = f"torch.optim.{name}" if theirs else None
    head = f"make={maker.__name__}" + (f", like={source}" if source else "")
    text, doc = filled([*arguments(maker, theirs)]), docstring(maker)
    end = f"\n{INDENT}" if "\n" in doc else ""
    return (
        f"\n\nclass {name}(AliasOptimizer, {head}):\n"
        f'    """{doc}{end}"""\n\n'
        f"    def __init__(\n{text}\n    ) -> None: ...\n"
    )


def docstring(maker: Callable[..., Any]) -> str:
    """The first line of that of the function, and which that is."""
    first, *_ = (inspect.getdoc(maker) or "").splitlines()
    if maker.__name__ == "of_torch":
        return first
    line = f"{first[:-1]}; see `{maker.__name__}`."
    return line if len(line) < WIDTH - 10 else f"{first}\n\n{INDENT}See `{maker.__name__}`."


def arguments(maker: Callable[..., Any], theirs: type | None) -> Iterable[str]:
    """The arguments as they are written, with the star where keywords begin."""
    told = {**annotations(maker), **{k: annotation for k, (annotation, _) in EXECUTION.items()}}
    starred = False
    yield "self"
    yield "params: ParamsT"
    listed = inspect.signature(maker if theirs is None else theirs).parameters.values()
    given = [a for a in listed if a.name in told]
    for a in given:
        if a.kind is a.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield f"{a.name}: {told[a.name]} = {literal(a.default)}"
    more = [k for k in EXECUTION if k not in {a.name for a in given}]
    if not starred:
        yield "*"
    for a in inspect.signature(maker).parameters.values():
        if a.name not in {x.name for x in given}:
            yield f"{a.name}: {told[a.name]} = {literal(a.default)}"
    for k in more:
        annotation, default = EXECUTION[k]
        yield f"{k}: {annotation} = {default}"


def annotations(maker: Callable[..., Any]) -> dict[str, str]:
    """The annotations of a function as its source has them."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(maker))).body
    assert isinstance(node, ast.FunctionDef)
    every = [*node.args.args, *node.args.kwonlyargs]
    quoted = {a.arg: ast.unparse(a.annotation) for a in every if a.annotation}
    return {name: text.replace("'", '"') for name, text in quoted.items()}


def literal(value: Any) -> str:
    """A default as we write it: 1e-8 and not 1e-08."""
    text = re.sub(r"e-0(\d)", r"e-\1", repr(value))
    return re.sub(r"\binf\b", "math.inf", text).replace("'", '"')


def filled(parts: Sequence[str]) -> str:
    """The arguments in lines that are full."""
    lines, line = [], "       "
    for part in parts:
        if len(line) + len(part) + 2 > WIDTH:
            lines.append(line)
            line = "       "
        line += f" {part},"
    return "\n".join([*lines, line])


if __name__ == "__main__":
    main()
