"""Any chain, any tree, any events: all engines and both forms do the same.

The test draws the same programs in every run. `make fuzz SECONDS=600 SEED=7` draws others, for as
long as one likes.
"""

import os

import pytest
from hypothesis import given, settings

from .properties import PROPERTIES, SLOW

some = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 100)), suppress_health_check=SLOW)


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_holds(name, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "interpreted")
    programs, check = PROPERTIES[name]
    some(given(programs)(lambda program: check(program)))()
