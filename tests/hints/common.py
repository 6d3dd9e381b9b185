"""What hints mention, looked up."""

import ast
import inspect
import re

import torch

import funcopt as fo

ROOTS = {"fo": fo, "torch": torch}


def resolve(text):
    """Fails unless all code in a text parses, and its `fo.x` and `torch.x` exist and fit."""
    for code in re.findall(r"`([^`]+)`", text):
        if code.startswith("with "):
            code += " pass"
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute):
                found(node)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                fits(node)


def found(node):
    """The object that a dotted name of a root stands for; `None` for others."""
    if isinstance(node, ast.Name):
        return ROOTS.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = found(node.value)
        return None if owner is None else getattr(owner, node.attr)
    return None


def fits(call):
    function = found(call.func)
    if function is None or not getattr(function, "__module__", "").startswith("funcopt"):
        return
    arguments = [x for x in call.args if not isinstance(x, ast.Starred)]
    keywords = {k.arg: k for k in call.keywords}
    inspect.signature(function).bind_partial(*arguments, **keywords)
