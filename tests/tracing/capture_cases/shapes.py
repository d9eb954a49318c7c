"""Sizes: how many graphs serve how many sizes, and what depends on them."""

from __future__ import annotations

from .harness import Cases, data, error_of, filled

cases = Cases()

# -- how many graphs ------------------------------------------------------------------------------


@cases(graphs=2)
def the_second_size_makes_the_dimension_dynamic(dg, compile):
    f = compile(lambda x: (x * 2).sum(1))
    for n in (4, 7, 5, 9, 4):
        yield f(data(dg, n, 3))


@cases(graphs=3)
def dynamic_false_is_one_graph_for_each_size(dg, compile):
    f = compile(lambda x: (x * 2).sum(1), dynamic=False)
    for n in (4, 7, 5, 4):
        yield f(data(dg, n, 3))


@cases(graphs=1)
def dynamic_true_is_one_graph_for_all(dg, compile):
    f = compile(lambda x: (x * 2).sum(1), dynamic=True)
    for n, m in ((4, 3), (7, 3), (5, 9)):
        yield f(data(dg, n, m))


@cases()
def sizes_zero_and_one(dg, compile):
    f = compile(lambda x: (x * 2 - x.mean(0), x + x.T if x.shape[0] == x.shape[1] else x))
    for n in (4, 7, 1, 0, 3, 1, 5):
        yield f(data(dg, n, 3))


@cases()
def sizes_zero_and_one_first(dg, compile):
    f = compile(lambda x, y: x + y)
    yield f(data(dg, 1, 3), data(dg, 4, 3))
    yield f(data(dg, 4, 3), data(dg, 4, 3))
    yield f(data(dg, 5, 3), data(dg, 1, 3))
    yield f(data(dg, 0, 3), data(dg, 1, 3))
    yield f(data(dg, 6, 3), data(dg, 6, 3))


@cases()
def two_arguments_of_one_size_and_then_not(dg, compile):
    f = compile(lambda x, y: (x.sum() + y.sum(), dg.cat([x, y])))
    yield f(data(dg, 4), data(dg, 4))
    yield f(data(dg, 5), data(dg, 5))
    yield f(data(dg, 6), data(dg, 3))
    yield f(data(dg, 3), data(dg, 3))


@cases()
def two_arguments_that_must_agree(dg, compile):
    f = compile(lambda x, y: x * y)
    yield f(data(dg, 4), data(dg, 4))
    yield f(data(dg, 5), data(dg, 5))
    yield error_of(lambda: f(data(dg, 6), data(dg, 3)))
    yield f(data(dg, 6), data(dg, 6))
    yield f(data(dg, 6), data(dg, 1))


@cases(graphs=1)
def declared_dimensions(dg, compile):
    f = compile(lambda x: (x * 2).sum(1), dynamic_shapes={"x": {0: "n"}})
    for n in (3, 1, 0, 7):
        yield f(data(dg, n, 2))


@cases(graphs=2)
def batches_with_gradients(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 4), dg.nn.Tanh(), dg.nn.Linear(4, 2)))
    f = compile(model)
    for n in (4, 7, 5, 2):
        f(data(dg, n, 3)).square().mean().backward()
        yield model


@cases()
def whole_steps_with_a_smaller_last_batch(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 4), dg.nn.BatchNorm1d(4)))
    opt = dg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @compile
    def step(x, y):
        opt.zero_grad()
        loss = dg.nn.functional.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        return loss.detach()

    for n in (6, 6, 5, 6, 2, 3):
        yield step(data(dg, n, 3), data(dg, n, 4)), model


@cases()
def another_number_of_dimensions(dg, compile):
    f = compile(lambda x: x.sum(-1) * x.dim())
    for shape in ((3,), (2, 3), (4, 3), (2, 4, 3), (5, 3)):
        yield f(data(dg, *shape))


@cases()
def dynamic_and_the_dtype_changes(dg, compile):
    f = compile(lambda x: x * 2)
    for n in (2, 3, 4):
        yield f(data(dg, n)), f(data(dg, n).double()), f(data(dg, n).long())


@cases()
def lists_of_tensors_of_other_sizes(dg, compile):
    f = compile(lambda xs: dg.cat(xs).sum() + len(xs))
    for sizes in ((2, 3), (4, 5), (1, 1), (2, 3, 4), (0, 5)):
        yield f([data(dg, n) for n in sizes])


# -- arithmetic with sizes ------------------------------------------------------------------------


@cases()
def sizes_as_numbers(dg, compile):
    @compile
    def f(x):
        n, m = x.shape
        return x / n, x * (n * m), x.sum() / x.numel(), n + m, x.size(0) // 2, x + n % 2

    for n in (4, 7, 5, 6):
        yield f(data(dg, n, 3))


@cases()
def sizes_as_results(dg, compile):
    f = compile(lambda x: (x.shape, x.size(0), len(x), x.numel(), x.dim(), tuple(x.shape)))
    for n in (4, 7, 5):
        yield [list(r) if isinstance(r, tuple) else r for r in f(data(dg, n, 3))]


@cases()
def reshape_flatten_and_view(dg, compile):
    @compile
    def f(x):
        n = x.shape[0]
        return (
            x.reshape(-1), x.flatten(1), x.view(n, -1), x.reshape(n * 2, -1), x.reshape(-1, 2, 3),
            x.unflatten(1, (2, 3)), x.view(x.size(0), x.size(1), 1),
        )  # fmt: skip

    for n in (4, 7, 5, 1):
        yield f(data(dg, n, 6))


@cases()
def slices_by_sizes(dg, compile):
    @compile
    def f(x):
        n = x.shape[0]
        return x[: n // 2], x[n // 2 :], x[1:-1], x[n - 1], x[::2], x[-(n // 3) :], x[: n - 1]

    for n in (4, 7, 5, 6):
        yield f(data(dg, n, 2))


@cases()
def joining_and_splitting(dg, compile):
    @compile
    def f(x):
        both = dg.cat([x, x])
        return both, dg.stack([x, x], 1), both.chunk(2), x.split(2), x.repeat(2, 1)

    for n in (4, 7, 6, 2):
        yield f(data(dg, n, 2))


@cases()
def broadcasting(dg, compile):
    f = compile(lambda x, y: (x[:, None] * y[None], x.unsqueeze(0).expand(3, -1), x - x.mean()))
    for n, m in ((4, 3), (7, 2), (5, 1), (1, 5)):
        yield f(data(dg, n), data(dg, m))


@cases()
def broadcasting_with_a_state_tensor(dg, compile):
    w = data(dg, 4, 1)
    f = compile(lambda x: x * w)
    for n in (3, 5, 1, 4):
        yield f(data(dg, n))
    yield f(data(dg, 4, 3)), f(data(dg, 1, 3))
    yield error_of(lambda: f(data(dg, 3, 3)))


@cases()
def convolution_and_pooling(dg, compile):
    model = filled(
        dg,
        dg.nn.Sequential(
            dg.nn.Conv2d(1, 2, 3, stride=2, padding=1), dg.nn.ReLU(), dg.nn.MaxPool2d(2),
            dg.nn.AdaptiveAvgPool2d(1), dg.nn.Flatten(), dg.nn.Linear(2, 2),
        ),
    )  # fmt: skip
    f = compile(model)
    for n, size in ((2, 8), (3, 8), (2, 11), (4, 9), (1, 8)):
        yield f(data(dg, n, 1, size, size))


@cases()
def factories_of_sizes(dg, compile):
    @compile
    def f(x):
        n = x.shape[0]
        return (
            dg.arange(n), dg.zeros(n, 2), dg.ones_like(x), dg.eye(n), dg.linspace(0, 1, n),
            dg.arange(n) * x, dg.full((n,), 7), x.new_zeros(n + 1), dg.arange(0, n, 2),
        )  # fmt: skip

    for n in (4, 7, 5, 6):
        yield f(data(dg, n))


@cases()
def masks_of_sizes(dg, compile):
    @compile
    def f(x):
        n = x.shape[1]
        mask = dg.ones(n, n).tril().bool()
        scores = x @ x.transpose(1, 2)
        return scores.masked_fill(~mask, float("-inf")).softmax(-1)

    for n in (4, 6, 3, 5):
        yield f(data(dg, 2, n, 3))


@cases()
def padding_masks_of_lengths(dg, compile):
    @compile
    def f(x, lengths):
        mask = dg.arange(x.shape[1])[None] < lengths[:, None]
        return (x * mask).sum(1) / lengths, mask

    for n, m in ((2, 4), (3, 5), (4, 6)):
        yield f(data(dg, n, m), dg.arange(n) + 1)


@cases()
def positions_and_embeddings(dg, compile):
    table = filled(dg, dg.nn.Embedding(10, 3))

    @compile
    def f(tokens):
        return table(tokens) + table(dg.arange(tokens.shape[1]))[None]

    for n, m in ((2, 4), (3, 5), (1, 6)):
        yield f(dg.arange(n * m).reshape(n, m) % 10)


# -- Python that depends on sizes -----------------------------------------------------------------


@cases()
def branches_on_sizes(dg, compile):
    @compile
    def f(x):
        if x.shape[0] > 3:
            return x * 2
        return x - 1

    for n in (2, 5, 3, 4, 1, 9):
        yield f(data(dg, n, 2))


@cases()
def branches_on_two_sizes(dg, compile):
    @compile
    def f(x, y):
        if len(x) == len(y):
            return x + y
        return dg.cat([x, y])

    for n, m in ((2, 3), (4, 5), (4, 4), (5, 5), (6, 7), (3, 3)):
        yield f(data(dg, n), data(dg, m))


@cases()
def branches_on_evenness(dg, compile):
    @compile
    def f(x):
        half = x.shape[0] // 2
        return x[:half] + x[half:] if x.shape[0] % 2 == 0 else x[:-1] * 2

    for n in (4, 7, 6, 9, 8):
        yield f(data(dg, n))


@cases()
def loops_over_sizes(dg, compile):
    @compile
    def f(x):
        total = 0
        for i in range(x.shape[0]):
            total = total + x[i] * i
        for n in x.size():
            total = total + n
        return total

    for n in (3, 5, 4, 1):
        yield f(data(dg, n, 2))


@cases()
def sizes_as_keys_and_in_text(dg, compile):
    names = {3: "three", 4: "four"}

    @compile
    def f(x):
        return x * 2, names.get(x.shape[0], "many"), f"{x.shape[0]} rows", [0] * x.shape[0]

    for n in (3, 5, 4, 6, 3):
        yield f(data(dg, n))


@cases()
def min_max_and_rounding_of_sizes(dg, compile):
    @compile
    def f(x):
        n = x.shape[0]
        k = min(n, 4)
        return x[:k], x[max(n - 2, 0) :], x * int(n**0.5), x * (n / 3), x[: round(n * 0.5)]

    for n in (3, 5, 4, 9):
        yield f(data(dg, n))


@cases()
def a_size_as_an_exponent_and_a_float(dg, compile):
    @compile
    def f(x):
        scale = x.shape[-1] ** -0.5
        return x * scale, x * float(x.shape[0]), x / len(x) ** 2

    for n in (3, 5, 4):
        yield f(data(dg, n, n))


@cases()
def a_python_number_as_a_size(dg, compile):
    f = compile(lambda x, n: (x[:n], dg.zeros(n), x.sum() * n))
    for n in (2, 3, 4, 0, 1):
        yield f(data(dg, 5), n)


@cases()
def assertions_about_shapes(dg, compile):
    @compile
    def f(x):
        n, m = x.shape
        assert m == 3, f"expected 3 columns, got {m}"
        assert n >= 2
        return x * 2

    yield f(data(dg, 4, 3)), f(data(dg, 5, 3))
    yield error_of(lambda: f(data(dg, 4, 2)))
    yield error_of(lambda: f(data(dg, 1, 3)))
    yield f(data(dg, 6, 3))


@cases()
def topk_and_sort_by_a_size(dg, compile):
    f = compile(lambda x: (x.topk(x.shape[0] // 2), x.sort(descending=True), x.argmax()))
    for n in (4, 7, 6):
        yield [list(r) if isinstance(r, tuple) else r for r in f(data(dg, n).sin())]


@cases()
def an_lstm_over_other_lengths(dg, compile):
    model = filled(dg, dg.nn.LSTM(2, 3, batch_first=True))
    f = compile(lambda x: model(x))
    for n, m in ((2, 4), (2, 5), (3, 6)):
        y, (h, c) = f(data(dg, n, m, 2))
        yield y, h, c


@cases()
def attention_over_other_lengths(dg, compile):
    @compile
    def f(q, k):
        scores = dg.nn.functional.scaled_dot_product_attention(q, k, k * 2)
        return scores.transpose(1, 2).reshape(q.shape[0], q.shape[2], -1)

    for n, m, k in ((2, 4, 4), (2, 5, 6), (3, 6, 2)):
        yield f(data(dg, n, 2, m, 4), data(dg, n, 2, k, 4))


@cases()
def state_of_another_size(dg, compile):
    w = [data(dg, 3)]
    f = compile(lambda x: x * w[0])
    for n in (3, 4, 5, 1):
        w[0] = data(dg, n)
        yield f(data(dg, n)), f(data(dg, 1))
