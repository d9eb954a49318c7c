"""Array kernels: what an operation's eager execution calls.

Plain functions over NumPy or CuPy arrays. The first argument, `xp`, is the array module itself,
so no kernel imports a device library. There are no tensors, graphs or gradients here: a
derivative that needs its own algorithm is a function beside the one it belongs to.

    sizes       output sizes of convolution and pooling windows (ints or symbolic dims)
    conv        N-d convolution, its input gradient (transposed convolution) and weight gradient
    pool        max, average and adaptive pooling with their backward passes
    special     error and gamma functions, which NumPy lacks
    activations sigmoid to softmax: the formulas that overflow or cancel when written naively
    random      counter-based random numbers, equal on every device
    sorting     sort, topk, argmax/argmin, cumulative sums, with PyTorch's rules for NaN
    indexing    gathers, scatters and their checks
    postponed   checks on a GPU, decided when it is waited for
    norm        batch, group and layer normalisation
    linalg      matrix products for every dtype

Conventions shared by all of them: inputs are never written to; float16, bfloat16 and float8
inputs are computed in float32 and rounded once at the end; results are new arrays unless a
docstring says "view".
"""
