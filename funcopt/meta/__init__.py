"""Meta-learning and hypergradients: unrolled, implicit, and zeroth-order derivatives."""

from ._hypergrad import Hypergradient as Hypergradient
from ._hypergrad import hypergrad as hypergrad
from ._implicit import custom_root as custom_root
from ._meta_optimizer import MetaOptimizer as MetaOptimizer
from ._solve import solve_cg as solve_cg
from ._solve import solve_neumann as solve_neumann
from ._solve import solve_normal_cg as solve_normal_cg
from ._unroll import unroll as unroll
from ._zero_order import zero_order as zero_order
