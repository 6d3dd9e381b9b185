"""The pure loop, on a dict of tensors: parameters and state go in and come out.

Nothing is changed behind your back, so the loop can be compiled, batched by `torch.func.vmap`, and
differentiated through by `torch.func.grad`.
"""

import torch

import funcopt as fo


def main(steps: int = 500) -> float:
    """Finds the point where Rosenbrock's function is least, and prints how far it is still."""

    def rosenbrock(point: dict[str, torch.Tensor]) -> torch.Tensor:
        x, y = point["x"], point["y"]
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    params = {"x": torch.tensor(-1.0), "y": torch.tensor(1.0)}
    tx = fo.chain(
        fo.clip_by_global_norm(1.0),
        fo.scale_by_adam(betas=(0.9, 0.99)),
        fo.scale_by_learning_rate(fo.cosine_decay_schedule(0.3, steps)),
    )
    state = tx.init(params)
    for _ in range(steps):
        grads = torch.func.grad(rosenbrock)(params)
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
    print(f"x = {params['x']:.3f}, y = {params['y']:.3f} (the least is at 1, 1)")
    return rosenbrock(params).item()


if __name__ == "__main__":
    main()
