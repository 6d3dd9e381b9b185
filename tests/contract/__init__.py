"""The contract of `torch.optim.Optimizer`, item by item; `docs/compatibility.md` is its table."""
