"""Execution in place: any chain, in as few passes over memory as it has sums."""

from ._alike import Alike as Alike
from ._donated import Donated as Donated
from ._donated import donated as donated
from ._engine import Engine as Engine
from ._engine import How as How
from ._form import same_form as same_form
from ._kernels import in_pieces as in_pieces
from ._look import addresses as addresses
from ._look import hold as hold
from ._look import identical as identical
from ._work import Work as Work
