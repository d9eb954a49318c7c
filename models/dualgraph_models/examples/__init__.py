"""Programs written for PyTorch, unchanged: each runs under PyTorch, and under dualgraph with

    python -m dualgraph.torch -m dualgraph_models.examples.NAME [options]

They import `torch` and nothing of dualgraph but the data sets, which are NumPy arrays.
"""
