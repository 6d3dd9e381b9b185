"""Numerics: functions of scalars and tensors that know nothing of optimizers."""
