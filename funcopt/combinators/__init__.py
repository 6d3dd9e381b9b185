"""Functions of transformations."""

from ._chain import chain as chain
from ._hyperparams import hyperparams as hyperparams
from ._hyperparams import with_hyperparams as with_hyperparams
