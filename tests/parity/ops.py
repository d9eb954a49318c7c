"""Every entry of PyTorch's database of operators: `op_db`."""

from __future__ import annotations

import contextlib
import signal
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

import dualgraph as dg

from .compare import Different, from_numpy, gradients, same, same_gradients, tensors
from .translate import Missing, counterpart, translate

DTYPES = (torch.float64, torch.float32, torch.complex128, torch.int64, torch.bool)
SECONDS = 120  # of computing, for all samples of one entry

# Entries whose results are what memory held, or drawn by another generator than ours.
UNSPECIFIED = {
    "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided",
    "resize_", "resize_as_",
    "bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal",
    "rand_like", "randint", "randint_like", "randn", "randn_like", "uniform",
    "nn.functional.fractional_max_pool2d", "nn.functional.fractional_max_pool3d",
    "pca_lowrank", "svd_lowrank",
}  # fmt: skip

# Entries that draw, too, but for those samples that keep (or drop) everything.
DROPPING = {
    "nn.functional.alpha_dropout", "nn.functional.dropout", "nn.functional.dropout2d",
    "nn.functional.dropout3d", "nn.functional.feature_alpha_dropout",
    "nn.functional.multi_head_attention_forward", "nn.functional.rrelu",
    "nn.functional.scaled_dot_product_attention",
}  # fmt: skip


# Entries whose results have indices among equal elements, any of which will do.
PLACES = {"argsort", "kthvalue", "mode", "sort", "topk"}


@dataclass
class Outcome:
    """What was found of one entry: `problems` by sample, none if it counts."""

    name: str
    samples: int = 0
    problems: list[str] = field(default_factory=list)
    missing: str = ""

    @property
    def agrees(self) -> bool:
        return self.samples > 0 and not self.problems and not self.missing

    @property
    def why(self) -> str:
        """In a line, what keeps it from agreeing."""
        if self.missing:
            return f"{self.missing} is missing"
        if not self.samples:
            return "no sample runs on a CPU"
        return f"{len(self.problems)} of {self.samples} samples: {self.problems[0]}"


def title(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


# Made of ``torch.ops``, which is private.
_OVERLOADS = {"max_pool2d_with_indices_backward"}
_ELSEWHERE = ("_", "torch.", "sparse.", "to_sparse", "jiterator", "masked.")


def in_scope(op: Any) -> bool:
    """Dense operators that users call: no sparse or masked tensors, private names, CUDA kernels."""
    if not op.supported_dtypes("cpu"):  # nothing that could be compared here
        return False
    if isinstance(op.op, torch._ops.OpOverload) or op.name in _OVERLOADS:
        return False
    return op.name.startswith("__") or not op.name.startswith(_ELSEWHERE)


def entries() -> list[Any]:
    return [op for op in op_db if in_scope(op)]


def run(op: Any, limit: int | None = None) -> Outcome:
    """Every sample of an entry (at most `limit` of each dtype), here and there."""
    outcome = Outcome(title(op))
    try:
        ours = counterpart(op.op, op.name)
    except Missing as missing:
        outcome.missing = str(missing)
        return outcome
    with warnings.catch_warnings(), alarm(SECONDS, outcome):
        warnings.simplefilter("ignore")
        for dtype in DTYPES:
            if dtype in op.supported_dtypes("cpu"):
                _run_dtype(op, ours, dtype, limit, outcome)
    return outcome


def _run_dtype(op: Any, ours: Any, dtype: torch.dtype, limit: int | None, outcome: Outcome) -> None:
    wide = dtype in (torch.float64, torch.complex128)
    grad = wide and op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    torch.manual_seed(0)
    for i, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=grad)):
        if i == limit:
            break
        name = f"{str(dtype).removeprefix('torch.')} sample {i}"
        try:
            compared = _run_sample(op, ours, sample, grad)
        except Missing as missing:
            outcome.missing = str(missing)
            return
        except TimeoutError:
            raise
        except Exception as error:  # whatever it is, it is what PyTorch does not do
            outcome.samples += 1
            text = str(error).strip().split("\n")[0]
            kind = "" if isinstance(error, Different) else f"{type(error).__name__}: "
            outcome.problems.append(f"{name} ({_short(sample)}): {kind}{text}")
            continue
        outcome.samples += compared


def _alone(x: Any) -> Any:
    """Arguments with leaves for views of leaves, which a sample makes without recording.

    PyTorch gives those no gradient.
    """
    if isinstance(x, torch.Tensor):
        return x.detach().requires_grad_() if x.is_leaf and x.requires_grad and x._is_view() else x
    if type(x) in (list, tuple):
        return type(x)(map(_alone, x))
    return {k: _alone(v) for k, v in x.items()} if type(x) is dict else x


def _run_sample(op: Any, ours: Any, sample: Any, grad: bool) -> int:
    seen: dict[int, Any] = {}
    given, named = _alone((sample.input, *sample.args)), _alone(sample.kwargs)
    arguments, keywords = translate(given, seen), translate(named, seen)
    leaves = [t for t in tensors((given, named), torch.Tensor) if t.requires_grad]
    try:
        expected = op.op(*given, **named)
    except Exception:  # PyTorch refuses its own sample: nothing to compare with
        return 0
    found = ours(*arguments, **keywords)
    values = _specified(op, sample)
    finish = sample.output_process_fn_grad
    if isinstance(finish, types.FunctionType):
        expected, found = finish(expected), counterpart(finish)(found)
    if op.name in PLACES:
        counted = op.name in ("kthvalue", "topk")
        found, expected = (
            _placed(found, arguments, keywords, counted),
            _placed(expected, given, named, counted),
        )
    same(found, expected, "result", values=values)
    if grad and leaves and values:
        own = [seen[id(t)] for t in leaves]
        theirs = gradients(expected, leaves, torch, from_numpy)
        same_gradients(
            gradients(found, own, dg, dg.from_numpy) if theirs else [], theirs, "gradient"
        )
    return 1


def _specified(op: Any, sample: Any) -> bool:
    """Whether a sample's operands say what its result is."""
    if op.name not in DROPPING:
        return op.name not in UNSPECIFIED
    if sample.kwargs.get("training") is False:
        return True
    if op.name == "nn.functional.multi_head_attention_forward":
        return sample.args[9] in (0, 1)  # its dropout_p
    return sample.kwargs.get("p", sample.kwargs.get("dropout_p")) in (0, 1)


def _placed(result: Any, arguments: Any, keywords: Any, counted: bool) -> Any:
    """A result with the elements that its indices name in place of the indices.

    `counted`: a number of elements stands before the dimension among the arguments.
    """
    indices = result[-1] if isinstance(result, tuple) else result
    x = arguments[0]
    if not x.ndim:
        return result
    position = 1 if counted and len(arguments) > 1 else 0
    named = keywords.get("dim", -1)
    given = arguments[1 + position] if len(arguments) > 1 + position else named
    dim = given if isinstance(given, int) and not isinstance(given, bool) else -1
    if indices.ndim < x.ndim:
        return (*result[:-1], x.gather(dim, indices.unsqueeze(dim)))
    picked = x.gather(dim, indices)
    return (*result[:-1], picked) if isinstance(result, tuple) else picked


def _short(sample: Any) -> str:
    def one(x: Any) -> str:
        if isinstance(x, torch.Tensor):
            return str(list(x.shape)).replace(" ", "")
        text = repr(x)
        return text if len(text) < 40 else type(x).__name__

    parts = [one(sample.input), *map(one, sample.args)]
    parts += [f"{k}={one(v)}" for k, v in sample.kwargs.items()]
    return ", ".join(parts)[:160]


@contextlib.contextmanager
def alarm(seconds: int, outcome: Outcome) -> Iterator[None]:
    """Give up after so many seconds of computing, whatever else the machine does."""

    def ring(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except TimeoutError:
        outcome.problems.append(f"took more than {seconds} s")
    except Exception as error:
        outcome.problems.append(f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
