"""No network at all: two tensors, one function of them, one step of SGD."""

import torch

import funcopt.optim as optim


def tensors() -> tuple[torch.Tensor, ...]:
    """X and c, which are learned, and b and d, which are not."""
    x, c = torch.tensor(5.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    return x, c, torch.tensor(2.0), torch.tensor(4.0)


def y(x: torch.Tensor, c: torch.Tensor, b: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    return c * 3 * torch.exp(x) + b * x + d


def main() -> dict[str, float]:
    """Takes one step in three ways, and returns where the tensors are then."""
    x, c, b, d = tensors()
    op = optim.SGD([x, c], lr=1.0)
    print(op)
    y(x, c, b, d).backward()
    op.step()
    print(f"lr 1.0: x = {x.item():.4f}, c = {c.item():.4f}")
    found = {"x": x.item(), "c": c.item()}

    # The group is read at every step, so a new rate counts at once.
    x, c, b, d = tensors()
    op = optim.SGD([x, c], lr=1.0)
    op.param_groups[0]["lr"] = 0.1
    y(x, c, b, d).backward()
    op.step()
    print(f"lr 0.1: x = {x.item():.4f}, c = {c.item():.4f}")
    found["c at lr 0.1"] = c.item()

    # So are the tensors in it: what stands there now is stepped, and x stays.
    x, c, b, d = tensors()
    other = torch.tensor(5.0, requires_grad=True)
    op = optim.SGD([x, c], lr=1.0)
    op.param_groups[0]["params"][0] = other
    y(other, c, b, d).backward()
    op.step()
    print(f"another tensor in the group: x = {x.item():.4f}, the other = {other.item():.4f}")
    return {**found, "x that was taken out": x.item(), "the other": other.item()}


if __name__ == "__main__":
    main()
