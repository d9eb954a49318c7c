"""Batches of sequences of different lengths: padded, and packed.

A PackedSequence here keeps the padded tensor and the lengths, which is what the recurrent layers
compute on, and which can be traced; PyTorch's packed layout is made from them when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph import functions as fn
from dualgraph._dispatch import make
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph.nn.functional.padding import pad
from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, TraceError

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class PackedSequence:
    """Sequences of different lengths without padding: the input and output of recurrent layers.

    Made by `pack_padded_sequence` or `pack_sequence`. Unpacks like PyTorch's named tuple.

    Args:
        data: the elements in time order, those of longer sequences first: [sum of lengths, *].
        batch_sizes: how many sequences have a step t: int64 [T], not increasing.
        sorted_indices: which sequence of the batch stands at each place, by falling length.
        unsorted_indices: the inverse of `sorted_indices`.
    """

    def __init__(
        self,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> None:
        if batch_sizes is None:
            raise ArgumentError("PackedSequence: batch_sizes are needed")
        if sorted_indices is None and unsorted_indices is not None:
            sorted_indices = invert_permutation(unsorted_indices)
        elif unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        self._packed: tuple[Any, ...] | None = (
            data,
            batch_sizes,
            sorted_indices,
            unsorted_indices,
        )
        self._padded: tuple[Tensor, Tensor] | None = None
        self._sorted = sorted_indices is None

    @classmethod
    def _of(cls, padded: Tensor, lengths: Tensor, in_order: bool) -> PackedSequence:
        """From a padded tensor [T, B, *] and int64 lengths [B] in the batch's order."""
        out = object.__new__(cls)
        out._packed = None
        out._padded = (padded, lengths)
        out._sorted = in_order
        return out

    def _like(self, padded: Tensor) -> PackedSequence:
        """Other elements [T, B, *] of sequences of the same lengths."""
        return PackedSequence._of(padded, self._steps()[1], self._sorted)

    # -- the padded form --------------------------------------------------------------------------

    def _steps(self) -> tuple[Tensor, Tensor]:
        """The padded tensor [T, B, *] and the lengths [B]."""
        if self._padded is None:
            assert self._packed is not None
            data, batch_sizes, _, unsorted = self._packed
            sizes = batch_sizes.numpy()
            batch = int(sizes[0]) if len(sizes) else 0
            lengths = (sizes[:, None] > np.arange(batch)).sum(0)
            inside = np.arange(batch) < sizes[:, None]
            starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
            at = np.where(inside, starts[:, None] + np.arange(batch), 0)
            if unsorted is not None:
                order = unsorted.cpu().numpy()
                lengths, inside, at = lengths[order], inside[:, order], at[:, order]
            padded = _take(data, at)
            mask = make(inside).reshape(*inside.shape, *(1,) * (data.ndim - 1))
            padded = fn.where(mask.to(data.device), padded, 0)
            self._padded = padded, make(lengths.astype(np.int64))
        return self._padded

    # -- PyTorch's form ---------------------------------------------------------------------------

    def _fields(self) -> tuple[Any, ...]:
        if self._packed is None:
            assert self._padded is not None
            padded, lengths = self._padded
            if lengths.is_symbolic:
                raise TraceError(
                    "the packed layout of sequences depends on their lengths' values, which a "
                    "trace does not have; pass the PackedSequence on to a recurrent layer or "
                    "pad_packed_sequence"
                )
            count = lengths.numpy()
            order = np.arange(len(count)) if self._sorted else np.argsort(-count, kind="stable")
            steps = int(count.max()) if len(count) else 0
            inside = np.arange(steps)[:, None] < count[order]
            at = (np.arange(steps)[:, None] * len(count) + order)[inside]
            flat = padded.reshape(-1, *padded.shape[2:])
            sizes = make(inside.sum(1).astype(np.int64))
            indices: tuple[Any, Any] = (None, None)
            if not self._sorted:
                where = make(order.astype(np.int64)).to(padded.device)
                indices = where, invert_permutation(where)
            self._packed = (_take(flat, at), sizes, *indices)
        return self._packed

    @property
    def data(self) -> Tensor:
        return self._fields()[0]  # type: ignore[no-any-return]

    @property
    def batch_sizes(self) -> Tensor:
        return self._fields()[1]  # type: ignore[no-any-return]

    @property
    def sorted_indices(self) -> Tensor | None:
        return self._fields()[2]  # type: ignore[no-any-return]

    @property
    def unsorted_indices(self) -> Tensor | None:
        return self._fields()[3]  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fields())

    def __getitem__(self, index: int) -> Any:
        return self._fields()[index]

    def __len__(self) -> int:
        return 4

    def __repr__(self) -> str:
        names = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
        fields = ", ".join(f"{n}={v!r}" for n, v in zip(names, self._fields()))
        return f"PackedSequence({fields})"

    # -- conversion -------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The elements on another device or of another dtype."""
        padded, lengths = self._steps()
        return PackedSequence._of(padded.to(*args, **kwargs), lengths, self._sorted)

    def cuda(self) -> PackedSequence:
        """The elements on a GPU."""
        return self.to("cuda")

    def cpu(self) -> PackedSequence:
        """The elements on the CPU."""
        return self.to("cpu")

    def float(self) -> PackedSequence:
        """The elements as float32."""
        return self.to(dt.float32)

    def double(self) -> PackedSequence:
        """The elements as float64."""
        return self.to(dt.float64)

    def pin_memory(self) -> Self:
        """The same: memory is not pinned here."""
        return self

    @property
    def is_cuda(self) -> bool:
        return self._steps()[0].is_cuda


def _take(x: Tensor, at: Any) -> Tensor:
    """Rows of `x` at the numbers `at`, an array: [*at.shape, *x.shape[1:]]."""
    index = make(np.ascontiguousarray(at.reshape(-1), np.int64)).to(x.device)
    return x.index_select(0, index).reshape(*at.shape, *x.shape[1:])


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes another one."""
    if permutation is None:
        return None
    order = np.argsort(permutation.cpu().numpy()).astype(np.int64)
    return make(order).to(permutation.device)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Sequences padded to one length as a PackedSequence.

    Args:
        input: [T, B, *], or [B, T, *] with `batch_first`.
        lengths: of the sequences, ints or int64 [B]; each at least 1.
        enforce_sorted: check that they do not increase; False allows any order.

    Raises:
        ArgumentError: lengths that do not fit.
    """
    padded = input.transpose(0, 1) if batch_first else input
    if not isinstance(lengths, Tensor):
        lengths = make(np.asarray([int(n) for n in lengths], np.int64))
    lengths = lengths.to(dt.int64)
    if not lengths.is_symbolic:
        _check_lengths(padded, lengths.cpu().numpy(), enforce_sorted)
    return PackedSequence._of(padded, lengths, enforce_sorted)


def _check_lengths(padded: Tensor, lengths: Any, enforce_sorted: bool) -> None:
    steps, batch = padded.shape[:2]
    if lengths.shape != (batch,) and isinstance(batch, int):
        raise ArgumentError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {lengths.size} "
            f"(batch_size={batch})"
        )
    if lengths.size and lengths.min() <= 0:
        raise ArgumentError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            "that is <= 0"
        )
    if lengths.size and isinstance(steps, int) and lengths.max() > steps:
        raise ArgumentError(
            f"Expected lengths of at most {steps}, the size of the padded input, got "
            f"{lengths.max()}"
        )
    if enforce_sorted and (np.diff(lengths) > 0).any():
        raise ArgumentError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You "
            "can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to "
            "sidestep this requirement if you do not need ONNX exportability."
        )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """A PackedSequence as a padded tensor and the lengths, in the order of the batch.

    Args:
        sequence: what to unpack.
        batch_first: whether the result is [B, T, *] instead of [T, B, *].
        padding_value: fills what is beyond a sequence's end.
        total_length: T; by default the longest length. In a trace, where lengths have no value,
            the default is T of the tensor that was packed.
    """
    padded, lengths = sequence._steps()
    have = padded.shape[0]
    want: Any = have if lengths.is_symbolic else int(lengths.max())
    if total_length is not None:
        if isinstance(total_length, int) and not lengths.is_symbolic and total_length < want:
            raise ArgumentError(
                "Expected total_length to be at least the length of the longest sequence in input, "
                f"but got total_length={total_length} and max sequence length being {want}"
            )
        want = total_length
    if want != have:
        if isinstance(want, int) and isinstance(have, int) and want < have:
            padded = padded.narrow(0, 0, want)
        else:
            rest = (0, 0) * (padded.ndim - 1)
            padded = pad(padded, (*rest, 0, want - have))
    steps = fn.arange(want, device=padded.device).unsqueeze(1)
    inside = (steps < lengths.to(padded.device)).reshape(
        want, padded.shape[1], *(1,) * (padded.ndim - 2)
    )
    padded = fn.where(inside, padded, padding_value)
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Tensors [L_i, *] as one, padded to the longest: [T, B, *], or [B, T, *] if `batch_first`."""
    if padding_side not in ("left", "right"):
        raise ArgumentError(f"padding_side should be left or right, got {padding_side!r}")
    sequences = list(sequences)
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        gap = longest - s.shape[0]
        ends = (0, gap) if padding_side == "right" else (gap, 0)
        rows.append(pad(s, (*(0, 0) * (s.ndim - 1), *ends), value=padding_value))
    return fn.stack(rows, 0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded tensor, each of its own length."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    with no_grad():
        counts = [int(n) for n in lengths]
    return [x[i].narrow(0, 0, n) for i, n in enumerate(counts)]


def pack_sequence(sequences: Iterable[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors [L_i, *] as a PackedSequence."""
    sequences = list(sequences)
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a PackedSequence."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
