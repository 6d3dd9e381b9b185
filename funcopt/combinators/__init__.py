"""Functions of transformations."""

from ._chain import chain as chain
from ._hyperparams import hyperparams as hyperparams
from ._hyperparams import labels as labels
from ._hyperparams import unique_keys as unique_keys
from ._hyperparams import walk as walk
from ._hyperparams import with_hyperparams as with_hyperparams
