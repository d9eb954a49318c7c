"""Python data that a function changes: counters, lists, attributes, tensors kept for later."""

from __future__ import annotations

from .harness import Cases, data

cases = Cases()


TOTAL = 0


@cases()
def a_cache_in_a_dict(dg, compile):
    cache = {}

    @compile
    def f(x, key):
        if key not in cache:
            cache[key] = x * 2
        return x + cache[key]

    for key in ("a", "b", "a", "c", "b"):
        yield f(data(dg, 2), key), sorted(cache)
