"""Values of tensors read by Python, and shapes that depend on them."""

from __future__ import annotations

from .harness import Cases, data

cases = Cases()

# -- values read by Python -------------------------------------------------------------------------


@cases()
def errors_that_are_handled(dg, compile):
    @compile
    def f(x, named):
        try:
            y = x + named["bias"]
        except KeyError:
            y = x * 2
        finally:
            z = x - 1
        try:
            y = y @ dg.ones(7, 7)
        except RuntimeError:
            y = y + 100
        return y, z

    yield f(data(dg, 3), {})
    yield f(data(dg, 3), {"bias": data(dg, 3)})


# -- shapes that depend on values ------------------------------------------------------------------
