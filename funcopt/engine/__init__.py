"""Execution in place: any chain, in as few passes over memory as it has sums."""

from ._donated import Donated as Donated
from ._donated import donated as donated
from ._engine import Engine as Engine
from ._engine import How as How
from ._identity import addresses as addresses
from ._identity import hold as hold
from ._identity import identical as identical
from ._kernels import in_pieces as in_pieces
from ._step import Work as Work
from ._structure import same_form as same_form
from ._tensor_guard import Alike as Alike
