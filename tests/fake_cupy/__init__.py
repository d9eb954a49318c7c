"""A strict stand-in for CuPy, so that GPU paths can be tested where there is no GPU.

Arrays live in NumPy memory behind a class that is no `numpy.ndarray`, and do what CuPy 14
documents, its refusals above all: no implicit conversion to NumPy, no NumPy arrays as operands, no
`where=` of ufuncs, no function or keyword that CuPy lacks, dtypes from CuPy's own tables of loops,
integer indices that wrap around unchecked, arrays of one device at a time. Whatever makes the host
wait for data of the device is counted; see `transfers`.

    array      the array class
    operators  its operators
    ufuncs     elementwise functions, from the loops in `ufuncs.txt`
    functions  the rest of the module's functions, from the signatures in `functions.txt`
    cuda       devices, streams, the runtime's queries
    transfers  what is read back from the device, and where

The three tables were printed by CuPy 14.2; a test compares them with CuPy where that is installed.
"""

from .install import installed
from .transfers import count_transfers

__all__ = ["count_transfers", "installed"]
