"""How much of PyTorch's vocabulary is here, measured by PyTorch's own databases.

``python -m tests.parity`` asks ``torch.testing._internal`` for its ops, modules and optimizers,
runs every sample it has of each here and there, in one process, and prints what agrees. It needs
what the `parity` extra installs.
"""
