"""Numbers as functions of the step: of the updates already made, 0 at the first.

A schedule is a record. It takes a number and gives a Python float, or a 0-d tensor and gives one in
float64, without looking at its value: so it works under `torch.func` and in `torch.compile`. Its
values may be tensors too, to be swept over or learned, or themselves schedules. It does not know
what it is used for: any hyperparameter takes one, and takes any other function of the step as well.
"""

from ._constant import constant as constant
from ._cosine import cosine_decay as cosine_decay
from ._cosine import cosine_restarts as cosine_restarts
from ._exponential import exponential_decay as exponential_decay
from ._exponential import multi_step_decay as multi_step_decay
from ._exponential import step_decay as step_decay
from ._join import join as join
from ._one_cycle import one_cycle as one_cycle
from ._polynomial import linear as linear
from ._polynomial import polynomial as polynomial
from ._warmup import warmup_cosine_decay as warmup_cosine_decay
from ._warmup import warmup_stable_decay as warmup_stable_decay
