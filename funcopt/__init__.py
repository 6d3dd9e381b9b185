"""Optimizers for PyTorch as composable, pure gradient transformations."""

from . import tree as tree

# The interface
from ._apply import apply_updates as apply_updates
from ._apply import apply_updates_ as apply_updates_
from ._apply import detach_state as detach_state
from ._apply import load_state_dict as load_state_dict
from ._apply import state_dict as state_dict
from ._base import GradientTransformation as GradientTransformation
from ._base import TensorRule as TensorRule
from ._base import from_functions as from_functions
from ._base import identity as identity
from ._math import select as select
from ._pass import State as State
from ._record import Record as Record
from ._typing import Scalar as Scalar
from ._typing import Schedule as Schedule
from .transforms import *
from .combinators import *
from .aliases import *
