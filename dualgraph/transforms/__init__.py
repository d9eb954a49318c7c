"""Tensors that stand for more than one array: batches without their axis, values with tangents.

`levels` holds what they share, `batched` and `dual` the two kinds, `batching` how each operation
acts on batches. ``dualgraph.func`` and ``autograd.forward_ad`` are built on them.
"""
