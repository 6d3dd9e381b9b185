"""How far roundings carry a run: from this follow bounds where a computation enlarges them.

Two computations of one number round at different places, and at others on each processor. If what
is computed is iterated on a loss, as the training of a network is, the difference may grow by many
powers of ten, and a bound that was read off one machine holds there by luck. So a test either gives
its gradients, and nothing grows; or it measures here what a rounding does to the run.
"""

import torch

from funcopt import tree


def nudged(params, seed=0):
    """All entries one rounding higher or lower; which, `seed` decides. Integers stay."""
    generator = torch.Generator().manual_seed(seed)

    def moved(p):
        if not p.is_floating_point():
            return p
        up = torch.rand(p.shape, generator=generator) < 0.5
        return p.detach().nextafter(torch.where(up, torch.inf, -torch.inf).to(p))

    return tree.map(moved, params)
