"""Execution in place: any chain, in as few passes over memory as it has sums."""

from ._donated import Donated as Donated
from ._donated import donated as donated
from ._engine import Engine as Engine
from ._engine import How as How
from ._identity import addresses as addresses
from ._identity import dicts_hold as dicts_hold
from ._identity import identical as identical
from ._kernels import in_pieces as in_pieces
from ._step import StepInputs as StepInputs
from ._structure import same_structure as same_structure
from ._tensor_guard import TensorGuard as TensorGuard
