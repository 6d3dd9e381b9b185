"""Examples in docstrings see what a user sees after ``from funcopt import *``."""

from typing import NamedTuple

import pytest
import torch

import funcopt


@pytest.fixture(autouse=True)
def public_names(doctest_namespace):
    doctest_namespace.update(vars(funcopt), **vars(funcopt.optim))
    doctest_namespace.update(torch=torch, NamedTuple=NamedTuple, fo=funcopt)
