"""Real torch optimizers: ``import funcopt.optim as optim``."""

from ._class import optimizer_class as optimizer_class
from ._optimizer import Optimizer as Optimizer
from ._torch import SGD as SGD
from ._torch import Adadelta as Adadelta
from ._torch import Adagrad as Adagrad
from ._torch import Adam as Adam
from ._torch import AdamW as AdamW
from ._torch import RMSprop as RMSprop
