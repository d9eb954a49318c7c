"""Getting one batch out of a dataset; the same code in the main process and in workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from dualgraph.utils.data.dataset import IterableDataset

__all__ = ["END", "Fetch", "make_fetch"]

Fetch = Callable[[Any], Any]


class _End:
    """The type of `END`, of which there is one in every process."""

    def __reduce__(self) -> str:
        return "END"


END = _End()


def make_fetch(
    dataset: Any, *, batched: bool, collate_fn: Callable[[Any], Any], drop_last: bool
) -> Fetch:
    """Return a function from the keys of a batch to the batch, or to `END` after the last one.

    Args:
        dataset: where samples come from. A stream is opened here, and takes from keys only their
            number.
        batched: whether keys come as a list, or as the key of one sample.
        collate_fn: makes the batch from the list of samples, or from the one sample.
        drop_last: whether a stream leaves out a last batch that is too short.
    """
    if isinstance(dataset, IterableDataset):
        stream = iter(dataset)

        def next_batch(keys: Any) -> Any:
            if not batched:
                sample = next(stream, END)
                return END if sample is END else collate_fn(sample)
            samples = list(itertools.islice(stream, len(keys)))
            if not samples or (drop_last and len(samples) < len(keys)):
                return END
            return collate_fn(samples)

        return next_batch

    fetch_many = getattr(dataset, "__getitems__", None)

    def look_up(keys: Any) -> Any:
        try:
            if not batched:
                samples = dataset[keys]
            elif fetch_many is not None:
                samples = fetch_many(keys)
            else:
                samples = [dataset[key] for key in keys]
        except StopIteration as error:  # would end the loop over the loader without a word
            raise RuntimeError("the dataset raised StopIteration") from error
        return collate_fn(samples)

    return look_up
