"""Sessions for runs that are fed other contents for initializers of the model.

Initializers are constants that the optimiser computes with, so a model of which some are fed is
another model: made when first asked for, one for each set of names.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .model import NodeArg
from .options import SessionOptions
from .preparing import read_with_inputs

if TYPE_CHECKING:
    from .session import InferenceSession


class Overriding:
    """The sessions of one model, by the initializers that are fed. Safe to use from threads.

    Only models on the CPU are made so.
    """

    def __init__(
        self, source: Any, options: SessionOptions, overridable: Sequence[NodeArg]
    ) -> None:
        self._source = source
        self._options = options
        self._names = {arg.name for arg in overridable}
        self._sessions: dict[frozenset[str], InferenceSession] = {}
        self._lock = threading.Lock()

    def session(self, feed: Any) -> InferenceSession | None:
        """The session to run this feed; None if it names no initializer."""
        from .session import InferenceSession

        fed = frozenset(self._names.intersection(feed)) if isinstance(feed, Mapping) else None
        if not fed:
            return None
        with self._lock:
            if fed not in self._sessions:
                options = copy.copy(self._options)
                options.optimized_model_filepath = ""
                options.initializers = {
                    n: v for n, v in options.initializers.items() if n not in fed
                }
                file = read_with_inputs(self._source, fed)
                self._sessions[fed] = InferenceSession(file, options)
            return self._sessions[fed]
