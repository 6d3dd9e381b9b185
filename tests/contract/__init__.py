"""The contract of `torch.optim.Optimizer`, item by item; `docs/contract.md` is its table."""
