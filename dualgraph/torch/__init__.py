"""Scripts written for PyTorch, run by dualgraph unchanged: ``python -m dualgraph.torch script.py``.

While it is installed, ``import torch`` (and any of its submodules) gives modules with PyTorch's
names and dualgraph's functions and classes, whether or not PyTorch itself is installed; it is never
imported, or changed. A name that is missing raises an error that says which, and what there is
instead.

::

    python -m dualgraph.torch train.py --epochs 3        as python train.py --epochs 3
    python -m dualgraph.torch -m package.train           as python -m package.train
    python -m dualgraph.torch -c "import torch; ..."     as python -c

In a program or a notebook :func:`install` does the same from there on.
"""

from .finder import install, installed, uninstall

__all__ = ["install", "installed", "uninstall"]
