"""Who meets whom in the table."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from . import ours, targets
from .chains import CHAINS, Chain
from .contenders import Contender
from .duel import SCHEDULED, Duel
from .problems import SHAPES, Problem, smaller
from .rivals import rivals


class Wanted(NamedTuple):
    """What of the table to measure, and where; names are patterns of the shell."""

    device: str = "cpu"
    quick: bool = False
    problems: str = "*"
    chains: str = "*"
    against: str = "*"
    engine: str | None = None
    """Of our optimizer; its own choice if it is `None`."""


def places(wanted: Wanted) -> Iterator[tuple[Problem, Chain, str]]:
    """The parameters, chains and modes that targets speak of."""
    for name, chain, mode in targets.places():
        if fnmatchcase(name, wanted.problems) and fnmatchcase(chain, wanted.chains):
            shapes = smaller(SHAPES[name]) if wanted.quick else SHAPES[name]
            yield Problem(name, shapes, wanted.device), CHAINS[chain], mode


def duels(wanted: Wanted) -> Iterator[Duel]:
    """Each against everybody who has it; under a scheduler, against those with parameter groups."""
    for problem, chain, mode in places(wanted):
        for theirs in opponents(chain, wanted):
            if mode == SCHEDULED and not targets.speak_of(chain.name, mode, theirs.name):
                continue
            for mine in ours.forms(chain, theirs.meets, wanted.engine):
                yield Duel(problem, chain.name, mine, theirs, mode, chain.apart)


def opponents(chain: Chain, wanted: Wanted) -> list[Contender]:
    """The rivals; and of AdamW, our own other ways."""
    found = rivals(chain)
    if chain.name == "adamw":
        found += [ours.wrapped(chain, one) for one in ours.engines() if one != wanted.engine]
        found.append(ours.donated(chain))
    return [one for one in found if fnmatchcase(one.name, wanted.against)]
