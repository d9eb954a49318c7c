"""Integer division and powers with NumPy's results, and an error where the divisor is zero."""

from __future__ import annotations

from .prelude import Prelude

# What `status` becomes, by the op that refuses; see plan.ERRORS.
CHECKED = {"ifloor_div": 1, "itrunc_div": 2, "iremainder": 3, "ifmod": 4}

_BODIES = {
    "ifloor_div": "q = a / b; return (TYPE)(a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q);",
    "itrunc_div": "q = a / b; return q;",
    "iremainder": "q = a % b; return (TYPE)(q != 0 && (q < 0) != (b < 0) ? q + b : q);",
    "ifmod": "q = a % b; return q;",
}


def integer_function(prelude: Prelude, fn: str, type: str) -> str:
    """The name of a function on scalars of an integer type."""
    name = f"{fn}_{type}"
    if fn == "ipow":
        return prelude.once(name, _POWER.replace("NAME", name).replace("TYPE", type))
    # The least number divided by -1 wraps; the processor would trap.
    wraps = "(TYPE)-a" if "div" in fn else "0"
    signed = f"  if (b == (TYPE)-1) return {wraps};\n" if type[0] == "i" else ""
    text = f"""
static inline TYPE {name}(TYPE a, TYPE b, int *status) {{
  TYPE q;
  if (b == 0) {{
    *status = {CHECKED[fn]};
    return 0;
  }}
{signed}  {_BODIES[fn]}
}}"""
    return prelude.once(name, text.replace("TYPE", type))


_POWER = """
static TYPE NAME(TYPE a, TYPE b) {
  if (b < 0) return a == 1 ? 1 : a == (TYPE)-1 ? (b & 1 ? a : 1) : 0;
  TYPE y = 1;
  while (b != 0) {
    if (b & 1) y = (TYPE)(y * a);
    b >>= 1;
    a = (TYPE)(a * a);
  }
  return y;
}"""
