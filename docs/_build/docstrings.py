"""What the generator of the API pages is told of docstrings, none of which need to know of the site.

Every `Record` is a dataclass, by its base class and without a decorator that could be seen. Formulas
are typeset. The arguments of a class of `funcopt.optim` are those of its function, and the hints of
torch. Names of the library are links.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from griffe import Class, Decorator, Docstring, ExprName, Extension, Module, Object

sys.path.insert(0, str(Path(__file__).parent))
from formulas import typeset

REFERENCE = Path(__file__).parents[1] / "api"
_dataclass = Decorator(ExprName("dataclasses.dataclass"), lineno=None, endlineno=None)

EXECUTION = {
    "params": "Parameters, `(name, parameter)` pairs, or parameter groups.",
    "maximize": "Ascend instead of descend.",
    "foreach": "Accepted for compatibility with `torch.optim`; `engine` decides.",
    "capturable": "Keep the step counts on the device of the parameters.",
    "differentiable": "Let autograd go through steps.",
    "fused": "Accepted for compatibility with `torch.optim`; `engine` decides.",
    "max_grad_norm": "Puts `clip_by_global_norm` in front of the chain: bound of the global norm.",
    "ema": "Puts `ema_of_params` behind the chain: decay rate of the averaged weights.",
    "accumulate": "Puts `accumulate` around the chain: number of micro-batches per update.",
    "quantized": "Puts `quantized` around the chain: how slots are stored.",
    "rounding": "Puts `rounded` around all: how parameters in 16 bits are written.",
    "offload": "Keep the state on the CPU, and make the steps there.",
    "engine": 'How steps are executed: "auto", "fused", "compiled", "torch", "foreach", "eager".',
}


class Docstrings(Extension):
    def on_package(self, *, pkg: Module, **_: object) -> None:
        pages = "".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))
        linked = {path.split(".")[-1]: path for path in re.findall(r"(?m)^::: (\S+)$", pages)}
        found = list(_members(pkg))
        for record in found:
            if isinstance(record, Class) and any(base.name == "Record" for base in record.mro()):
                record.decorators.append(_dataclass)
        makers = {m.name: m for m in found if ".aliases." in m.path or m.name == "of_torch"}
        for optimizer in found:
            if isinstance(optimizer, Class) and optimizer.module.name.startswith("_classes_"):
                _add_arguments(optimizer, makers)
        for member in found:
            if member.docstring:
                text = typeset(member.docstring.value)
                member.docstring.value = _with_links(text, linked, member.name)


def _members(within: Module | Class) -> Iterator[Object]:
    for member in within.members.values():
        if member.is_alias:
            continue
        yield member
        if isinstance(member, (Module, Class)):
            yield from _members(member)


def _add_arguments(optimizer: Class, makers: dict[str, Object]) -> None:
    """Documents the arguments of a class by those of the function that it is made of."""
    made = re.search(r"make=(\w+)", " ".join(optimizer.lines))
    if not made or not optimizer.docstring:
        return
    maker = makers[made[1]]
    assert maker.docstring is not None
    told = maker.docstring.value
    sections = re.split(r"(?m)^(?=(?:Args|Raises|References):$)", told)
    args = next((part for part in sections if part.startswith("Args:")), "Args:\n").rstrip()
    rest = [part.rstrip() for part in sections[1:] if not part.startswith("Args:")]
    known = set(re.findall(r"(?m)^ {4}(\w+):", args))
    taken = [p.name for p in optimizer.members["__init__"].parameters]
    hints = {k: text for k, text in EXECUTION.items() if k in taken and k not in known}
    params = hints.pop("params", None)
    head, _, tail = args.partition("\n")
    lines = [head, *([f"    params: {params}"] if params else []), *([tail] if tail else [])]
    lines += [f"    {name}: {text}" for name, text in hints.items()]
    body = sections[0].partition("\n")[2].strip()
    first = optimizer.docstring.value.strip()
    text = "\n\n".join(x for x in [first, body, "\n".join(lines), *rest] if x)
    optimizer.docstring = Docstring(text, parent=optimizer, parser=optimizer.docstring.parser)


def _with_links(text: str, linked: dict[str, str], own: str) -> str:
    """The names of the library in the text as links to their entry in the reference."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        return f"[`{name}`][{linked[name]}]" if name in linked and name != own else match[0]

    return re.sub(r"(?<![`\[\w])`(\w+)`(?![`\]])", link, text)
