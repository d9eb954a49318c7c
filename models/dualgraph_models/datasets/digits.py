"""The UCI optical digits: 1,797 images of 8x8 pixels, written by hand on preprinted forms.

They come with the package as ``data/digits.npz``; source, licence and citation stand beside it in
``data/digits.txt``.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# The labels repeat one sequence of 130 digits, the text of the form every writer filled, and so
# show where each of the 14 forms begins (a few forms lack some digits).
FORM_STARTS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)
HELD_OUT_FORMS = 3


class Split(NamedTuple):
    """Images (float32 [n, 1, 8, 8], 0 to 1) and labels (int64 [n]), to train on and held out."""

    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def load_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return all images, float32 [1797, 1, 8, 8] scaled to 0..1, and labels, int64 [1797].

    A pixel counts the inked dots of a 4x4 block of the scan, 0 to 16, here divided by 16.
    """
    path = resources.files("dualgraph_models").joinpath("data", "digits.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        images = arrays["images"].astype(np.float32)[:, None] / np.float32(16)
        return images, arrays["labels"].astype(np.int64)


def digits_split(seed: int | None = None) -> Split:
    """Return the digits as a training set and a held-out test set.

    Without `seed`, whole forms are held out: the first 11 forms of the file (1,415 images) train,
    the last 3 (382 images, 21 %) test. The test so asks for handwriting the model has not seen:
    13 people filled the 14 forms, hence at most one of them can be on both sides.

    With `seed`, a random fifth of each class is held out (359 images; 1,438 train), the same for
    the same seed. All writers are then on both sides, which is easier by one to two percent.
    """
    images, labels = load_digits()
    held_out = np.zeros(len(labels), dtype=np.bool_)
    if seed is None:
        held_out[FORM_STARTS[-HELD_OUT_FORMS] :] = True
    else:
        generator = np.random.default_rng(seed)
        for digit in range(10):
            (members,) = np.nonzero(labels == digit)
            held_out[generator.permutation(members)[: round(len(members) / 5)]] = True
    return Split(images[~held_out], labels[~held_out], images[held_out], labels[held_out])
