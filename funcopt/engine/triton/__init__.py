"""Kernels of Triton, for GPUs: a lowered graph is printed as one kernel for a whole pass."""

from ._deferred import scalars_together as scalars_together
from ._kernel import TritonKernel as TritonKernel
from ._launch import at_once as at_once
from ._launch import is_available as is_available
from ._launch import is_deferring as is_deferring
from ._launch import make_pending as make_pending
from ._launch import together as together
from ._prepared import Prepared as Prepared
from ._scalars import DeviceKernel as DeviceKernel
