"""What PyTorch and Optax compute."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

jax.config.update("jax_enable_x64", True)


def of_torch(scheduler, lr, steps):
    """The learning rates of so many steps, with ``scheduler(optimizer)`` of `torch.optim`."""
    optimizer = torch.optim.SGD([torch.zeros(())], lr=lr)
    scheduler = scheduler(optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        if step < steps - 1:
            optimizer.step()
            scheduler.step()
    return rates


def of_optax(schedule, steps):
    """The values of an Optax schedule in so many steps."""
    return np.broadcast_to(np.asarray(schedule(jnp.arange(steps))), (steps,))


def assert_same(schedule, expected, roundings=4):
    """Asserts that the values of a schedule, from step 0, are `expected`.

    They may be off by so many roundings of the greatest of them.
    """
    got = [schedule(step) for step in range(len(expected))]
    greatest = float(np.max(np.abs(expected)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=roundings * 2**-53 * greatest)
