"""Functions of numbers and of tensors, without a word of optimizers."""
