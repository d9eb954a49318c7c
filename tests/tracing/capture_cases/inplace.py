"""Writes to arguments, state and views, and memory that is shared."""

from __future__ import annotations

from .harness import Cases, data, error_of, filled

cases = Cases()


@cases()
def arguments_are_written(dg, compile):
    @compile
    def f(x, y):
        x.add_(1)
        y[0] = 7
        x *= y
        return x * 2

    for _ in range(2):
        x, y = data(dg, 3), data(dg, 3, low=2)
        yield f(x, y), x, y


@cases()
def writing_before_and_after_reading(dg, compile):
    @compile
    def f(x):
        a = x * 2
        x.zero_()
        b = x + 1
        x.fill_(5)
        return a, b, x + 1

    x = data(dg, 3)
    yield f(x), x


@cases()
def views_of_arguments_are_written(dg, compile):
    @compile
    def f(x):
        x[0] = 1
        x[:, 1].mul_(10)
        x.view(-1)[-1] = 99
        x.T[0].add_(0.5)
        x.diagonal().neg_()
        return x.sum()

    x = data(dg, 3, 3)
    yield f(x), x


@cases()
def chains_of_views(dg, compile):
    @compile
    def f(x):
        v = x.view(2, 6)[1].view(3, 2).T[:, 1:]
        v.add_(100)
        w = v[0].unsqueeze(0).expand(1, 2)
        return v, w * 1, x.clone()

    x = data(dg, 12)
    yield f(x), x


@cases()
def a_view_taken_before_and_a_write_after(dg, compile):
    @compile
    def f(x):
        y = x * 1
        v = y[1:]
        y.add_(10)
        v.mul_(2)
        w = y.view(-1)
        y[0] = -1
        return y, v, w

    yield f(data(dg, 4))


@cases()
def arguments_that_are_not_contiguous(dg, compile):
    @compile
    def f(x):
        x.add_(1)
        x[0] = 0
        return x * 2

    base = data(dg, 4, 6)
    for x in (base.T, base[:, ::2], base[1:3, 1:], base[2], base.view(3, 8)[1]):
        yield f(x), base


@cases()
def arguments_that_overlap(dg, compile):
    @compile
    def f(x, y):
        x.add_(1)
        y.mul_(2)
        return x.sum() + y.sum()

    base = data(dg, 6)
    yield f(base[:3], base[3:]), base
    yield f(base[:4], base[2:]), base
    yield f(base, base), base
    yield f(base[::2], base[1::2]), base


@cases()
def one_tensor_for_two_parameters(dg, compile):
    @compile
    def f(x, y):
        x.add_(1)
        return x * y, y * 2

    x, y = data(dg, 3), data(dg, 3, low=2)
    yield f(x, y), x, y
    yield f(x, x), x
    yield f(x, x), x
    yield f(y, x), x, y


@cases()
def an_argument_and_its_view(dg, compile):
    @compile
    def f(x, y):
        y.zero_()
        return x * 2

    x = data(dg, 4)
    yield f(x, x[1:3]), x
    yield f(x, x.view(2, 2)), x


@cases()
def an_argument_that_is_also_state(dg, compile):
    w = data(dg, 3)

    @compile
    def f(x):
        w.mul_(2)
        return x + w

    yield f(data(dg, 3)), w
    yield f(w), w
    yield f(w[:1]), w
    yield f(w.view(3)), w


@cases()
def expanded_arguments_cannot_be_written(dg, compile):
    f = compile(lambda x: x.add_(1))
    x = data(dg, 3)
    yield error_of(lambda: f(x.expand(2, 3))), x
    yield f(x), x


@cases()
def state_is_written(dg, compile):
    count, history = dg.zeros(()), dg.zeros(4)

    @compile
    def f(x):
        history[1:] = history[:-1].clone()
        history[0] = x.sum()
        count.add_(1)
        return history.mean() * count

    for i in range(5):
        yield f(data(dg, 3) + i), history, count


@cases()
def a_row_of_state_chosen_by_a_tensor(dg, compile):
    memory = dg.zeros(4, 2)

    @compile
    def f(i, x):
        memory[i] = x
        memory.index_add_(0, i, x)
        return memory.sum(0)

    for i in ([0, 1], [3, 2]):
        yield f(dg.tensor(i), data(dg, 2, 2)), memory


@cases()
def a_slice_of_state_chosen_by_a_python_number(dg, compile):
    memory = dg.zeros(5, 2)

    @compile
    def f(x, start):
        memory[start : start + len(x)] = x
        return memory[: start + len(x)].sum(0)

    for start, n in ((0, 2), (2, 2), (4, 1), (1, 3)):
        yield f(data(dg, n, 2), start), memory


@cases()
def a_view_of_state_kept_outside(dg, compile):
    w = data(dg, 4)
    part = w[1:3]

    @compile
    def f(x):
        part.add_(x)
        w.mul_(2)
        return part * 1, w * 1

    for _ in range(2):
        yield f(data(dg, 2)), w, part


@cases()
def results_are_written_by_the_caller(dg, compile):
    w = data(dg, 3)
    f = compile(lambda x: (x * w, x + 0, w.clone(), w.view(3, 1)))
    x = data(dg, 3)
    a, b, c, d = f(x)
    for t in (a, b, c):
        t.zero_()
    d[0] = 50
    yield x, w, f(x)


@cases()
def in_place_on_a_leaf_that_requires_grad(dg, compile):
    f = compile(lambda x: x.add_(1))
    x = data(dg, 3, grad=True)
    yield error_of(lambda: f(x)), x
    with dg.no_grad():
        yield f(x), x
    y = x * 1
    f(y).sum().backward()
    yield x


@cases()
def gradients_through_writes_to_arguments(dg, compile):
    @compile
    def f(x, w):
        x.mul_(w)
        x[0] = 0
        return x.exp()

    w = data(dg, 3, low=1, grad=True)
    a = data(dg, 3, grad=True)
    x = a * 2
    y = f(x, w)
    (y.sum() + (x * x).sum()).backward()
    yield a, w, x


@cases()
def gradients_through_writes_to_views(dg, compile):
    @compile
    def f(x, w):
        y = x.clone()
        y[1:].mul_(w)
        y.T[0] = w[0]
        return y

    w, x = data(dg, 2, low=1, grad=True), data(dg, 2, 2, grad=True)
    f(x, w).square().sum().backward()
    yield x, w


@cases()
def the_out_argument(dg, compile):
    @compile
    def f(x, out):
        dg.add(x, 1, out=out)
        return out * 2

    out = dg.zeros(3)
    yield f(data(dg, 3), out), out


@cases()
def copy_to_another_dtype_and_shape(dg, compile):
    total = dg.zeros(2, 3, dtype=dg.float64)

    @compile
    def f(x):
        total.copy_(x)
        total[0].copy_(x[1].long())
        return total.sum()

    yield f(data(dg, 2, 3, low=-2)), total
    yield f(data(dg, 2, 3, low=-5)), total


@cases()
def in_place_operators_on_captured_tensors(dg, compile):
    total = dg.zeros(3)

    @compile
    def f(x):
        nonlocal total
        total += x
        total *= 2
        return total + 1

    first = total
    for _ in range(3):
        yield f(data(dg, 3)), total, first is total


@cases()
def rebinding_is_not_writing(dg, compile):
    total = dg.zeros(3)

    @compile
    def f(x):
        nonlocal total
        total = total + x
        return total * 2

    first = total
    for _ in range(3):
        yield f(data(dg, 3)), total, first


@cases()
def swapping_two_captured_tensors(dg, compile):
    a, b = data(dg, 2), data(dg, 2, low=5)

    @compile
    def f(x):
        nonlocal a, b
        a, b = b, a + x
        return a * 1

    for _ in range(3):
        yield f(data(dg, 2)), a, b


@cases()
def a_failed_call_writes_nothing(dg, compile):
    w = data(dg, 3)

    @compile
    def f(x, i):
        y = x * 2
        return y[i] + w

    yield f(data(dg, 3), dg.tensor(1))
    yield error_of(lambda: f(data(dg, 3), dg.tensor(7))), w
    yield f(data(dg, 3), dg.tensor(2))


@cases()
def running_statistics_with_views(dg, compile):
    bn = filled(dg, dg.nn.BatchNorm2d(2))
    f = compile(lambda x: bn(x.view(2, 2, 2, 2)).flatten(1))
    for i in range(3):
        yield f(data(dg, 16) + i), bn


@cases(graphs=1)
def what_a_mask_picks_is_changed_in_place(dg, compile):
    @compile(fullgraph=True)
    def f(x, rows):
        y = x * 1
        y[y > 0.5] *= 2
        y[x < 0] += 1.5
        y[rows] -= 3
        y[y == 0] /= 0
        return y

    for low in (-1.0, 0.7):
        x = data(dg, 4, 3, low=low)
        yield f(x, x[:, 0] > 0)


@cases(graphs=2)
def what_a_mask_picks_is_changed_by_a_tensor(dg, compile):
    w = data(dg, 3, low=0.5, grad=True)

    @compile(fullgraph=True)
    def f(x, k):
        y = x * 1
        y[(x > 0).any(1),] *= w
        y[x > 0.2] **= 0.5
        y[x < 0] -= k
        return y.sum()

    for k in (2, 3):
        x = data(dg, 4, 3, grad=True)
        f(x, k).backward()
        yield x


@cases(warns="depends on data")
def as_many_values_as_a_mask_picks(dg, compile):
    @compile
    def f(x, values):
        y = x * 1
        y[y > 0] += values
        return y

    yield f(data(dg, 4), data(dg, 2))


@cases(torch="PyTorch's error is a RuntimeError")
def a_mask_of_integers_is_no_place_for_fractions(dg, compile):
    @compile
    def f(x):
        y = x * 1
        y[y > 0] *= 2
        return y

    yield f(dg.tensor([1, -2, 3]))

    @compile(fullgraph=True)
    def g(x):
        y = x * 1
        y[y > 0] *= 2.5
        return y

    yield error_of(lambda: g(dg.tensor([1, -2, 3])))
