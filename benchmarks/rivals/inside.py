"""Our own chain, without what decides in every step whether it is called."""

from .. import ours
from ..chains import CHAINS, Chain
from ..contenders import Contender


def contenders(chain: Chain) -> list[Contender]:
    """The chain inside."""
    if not chain.inside:
        return []
    return [ours.wrapped(CHAINS[chain.inside])._replace(name="the chain inside", differs=True)]
