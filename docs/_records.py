"""Tells the generator of the API pages that every `Record` is a dataclass.

There is no decorator that it could see: the base class makes its subclasses dataclasses. With the
one it looks for in place, it shows the call that makes a record.
"""

from griffe import Class, Decorator, ExprName, Extension, Module

_dataclass = Decorator(ExprName("dataclasses.dataclass"), lineno=None, endlineno=None)


class Records(Extension):
    def on_package(self, *, pkg: Module, **_: object) -> None:
        for record in _classes(pkg):
            if any(base.name == "Record" for base in record.mro()):
                record.decorators.append(_dataclass)


def _classes(within: Module | Class) -> list[Class]:
    found = []
    for member in within.members.values():
        if member.is_alias or not (member.is_module or member.is_class):
            continue
        found += [member] if member.is_class else []
        found += _classes(member)
    return found
