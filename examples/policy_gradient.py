"""Reinforcement learning: a policy gradient balances a pole.

The environment is a cart with a pole, in ten lines of torch, 64 of them side by side. The loss is
that of REINFORCE: the logarithm of what the policy did, weighted by the return that followed, less
the mean over the environments. Gradients of policies are noisy, and now and then huge: a global
clip, as the first stage of the chain, bounds them, and `opt.metrics()` shows how often it did.
Williams, 1992, https://doi.org/10.1007/BF00992696; Barto, Sutton and Anderson, 1983.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import funcopt as fo

BLUE, ORANGE = "#0072b2", "#d55e00"
ENVIRONMENTS, LONGEST = 64, 200


# %%
# The state is (place, speed, angle, angular speed), one row for each environment. A push to the
# left or to the right lasts 20 ms; the pole has fallen at 12 degrees.
def move(state: Tensor, right: Tensor) -> Tensor:
    _, speed, angle, turn = state.unbind(1)
    force = torch.where(right, 10.0, -10.0)
    pull = (force + 0.05 * turn**2 * angle.sin()) / 1.1
    bend = (9.8 * angle.sin() - pull * angle.cos()) / (0.5 * (4 / 3 - angle.cos() ** 2 / 11))
    push = pull - 0.05 * bend * angle.cos() / 1.1
    return state + 0.02 * torch.stack([speed, push, turn, bend], 1)


def standing(state: Tensor) -> Tensor:
    return (state[:, 0].abs() < 2.4) & (state[:, 2].abs() < 0.209)


# %%
# One episode in every environment: the logits, the actions, and which environments still ran.
def play(policy: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    state = 0.1 * torch.rand(ENVIRONMENTS, 4) - 0.05
    alive, seen, actions, ran = torch.ones(ENVIRONMENTS, dtype=torch.bool), [], [], []
    with torch.no_grad():
        for _ in range(LONGEST):
            right = torch.rand(ENVIRONMENTS) < policy(state)[:, 0].sigmoid()
            seen.append(state)
            actions.append(right)
            ran.append(alive)
            state = move(state, right)
            alive = alive & standing(state)
            if not alive.any():
                break
    return policy(torch.stack(seen))[..., 0], torch.stack(actions), torch.stack(ran).float()


def main(iterations: int = 40) -> dict[str, list[float]]:
    """The mean length of an episode, and the norm of the gradient, in every iteration."""
    torch.manual_seed(0)
    policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adam(0.02))
    opt = fo.Optimizer(policy.named_parameters(), tx)
    found: dict[str, list[float]] = {"length": [], "norm": []}
    for _ in range(iterations):
        logits, right, ran = play(policy)
        returns = ran.flip(0).cumsum(0).flip(0)  # the steps that are still to come
        advantage = (returns - returns.sum(1, keepdim=True) / ran.sum(1, keepdim=True)) * ran
        chosen = nn.functional.logsigmoid(torch.where(right, logits, -logits))
        loss = -(advantage * chosen).sum() / ran.sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        found["length"].append(ran.sum(0).mean().item())
        found["norm"].append(opt.metrics()["grad_norm"].item())
    clipped = sum(norm > 1 for norm in found["norm"])
    print(f"mean length of an episode: {found['length'][0]:.0f} at first, ", end="")
    print(f"{found['length'][-1]:.0f} of {LONGEST} in the end; ", end="")
    print(f"{clipped} of {iterations} gradients were clipped")
    draw(found, policy, Path("out/policy_gradient.png"))
    return found


def draw(found: dict[str, list[float]], policy: nn.Module, path: Path) -> None:
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(found["length"], color=BLUE)
    left.axhline(LONGEST, color="k", linestyle=":", label="the longest possible")
    left.set(xlabel="iteration", ylabel="steps until it falls", title="mean of 64 episodes")
    left.legend(loc="lower right")
    middle.plot(found["norm"], color=ORANGE)
    middle.axhline(1.0, color="k", linestyle=":", label="max_norm")
    middle.set(xlabel="iteration", title="norm of the gradient")
    middle.legend()
    angle, turn = torch.linspace(-0.2, 0.2, 80), torch.linspace(-2, 2, 80)
    still = torch.zeros(80, 80)
    grid = torch.stack([still, still, *torch.meshgrid(angle, turn, indexing="xy")], -1)
    with torch.no_grad():
        chance = policy(grid)[..., 0].sigmoid()
    image = right.imshow(
        chance.numpy(),
        origin="lower",
        extent=(-11.5, 11.5, -2, 2),
        aspect="auto",
        cmap="RdBu_r",
        vmin=0,
        vmax=1,
    )
    figure.colorbar(image, ax=right, label="chance of a push to the right")
    right.set(xlabel="angle (degrees)", ylabel="angular speed (rad/s)", title="what it has learned")
    for ax in (left, middle):
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
