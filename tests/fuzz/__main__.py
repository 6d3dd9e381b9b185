"""New programs in every round, until the time is over or one of them fails: `make fuzz`."""

import argparse
import itertools
import os
import time

from hypothesis import Phase, given, seed, settings

from .properties import PROPERTIES, SLOW

FRESH = settings(
    max_examples=50,
    deadline=None,
    derandomize=False,
    database=None,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=SLOW,
)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    end, tried = time.monotonic() + options.seconds, 0
    for number, name in ((n, name) for n in itertools.count() for name in PROPERTIES):
        if time.monotonic() > end:
            break
        print(f"round {number}: {name}", flush=True)
        tried += hold(name, f"{options.seed}, {number}, {name}")
    print(f"{tried} programs, drawn from seed {options.seed}: all of it holds")


def hold(name, start):
    """Checks a property of programs drawn from a seed; returns how many there were."""
    programs, check = PROPERTIES[name]
    tried = 0

    def one(program):
        nonlocal tried
        tried += 1
        check(program)

    seed(start)(FRESH(given(programs)(one)))()
    return tried


if __name__ == "__main__":
    main()
