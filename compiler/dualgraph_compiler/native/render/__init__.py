"""C text for kernels."""
