"""All others, each as fast as it can be told to be."""

from ..chains import Chain
from ..contenders import Contender
from . import by_hand, heavyball, inside, limits, optax, pytorch_optimizer, torch_optim, torchopt

FAMILIES = (torch_optim, by_hand, torchopt, heavyball, pytorch_optimizer, optax, inside, limits)


def rivals(chain: Chain) -> list[Contender]:
    """Everybody who has the chain, whether installed or not."""
    return [one for family in FAMILIES for one in family.contenders(chain)]
