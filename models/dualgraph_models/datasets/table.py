"""Tables in CSV files."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dualgraph_compiler.errors import ArgumentError, DualGraphError
from dualgraph_models.datasets._samples import Pairs, Transform

__all__ = ["CsvDataset", "CsvError"]


class CsvError(DualGraphError, ValueError):
    """A file that is not a complete table of what it should hold."""


class CsvDataset(Pairs):
    """Rows of a CSV file: numbers, and a target.

    A target that is not made of numbers is a class: the classes are numbered in the order of their
    names.

    Args:
        path: a file in UTF-8 whose first line names the columns.
        target: the column that is to be predicted; by default the last one.
        features: the columns to predict it from; by default all others.
        delimiter: what separates columns.
        transform: applied to each row of features, float32 [columns].
        target_transform: applied to each target.

    Attributes:
        columns: the names of the features.
        features: float32 [rows, columns].
        targets: int64 [rows] for classes, else float32 [rows].
        classes: the names of the classes; empty for numbers.

    Raises:
        CsvError: a line that has not as many columns as the first, or a feature that is no number;
            the message names the line.
        ArgumentError: there is no such column.
        FileNotFoundError: there is no such file.
    """

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[Any]

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | None = None,
        features: Sequence[str] | None = None,
        delimiter: str = ",",
        transform: Transform = None,
        target_transform: Transform = None,
    ) -> None:
        super().__init__(transform, target_transform)
        self.path = os.fspath(path)
        header, rows, lines = _read(self.path, delimiter)
        target = header[-1] if target is None else target
        self.columns = [c for c in header if c != target] if features is None else list(features)
        for name in (target, *self.columns):
            if name not in header:
                raise ArgumentError(f"{self.path}: no column {name!r}, only {', '.join(header)}")
        places = [header.index(name) for name in self.columns]
        self.features = np.empty((len(rows), len(places)), np.float32)
        for i, (row, line) in enumerate(zip(rows, lines)):
            for j, place in enumerate(places):
                self.features[i, j] = self._number(row[place], line, header[place])
        texts = [row[header.index(target)].strip() for row in rows]
        self.classes: list[str] = []
        try:
            self.targets = np.array([float(text) for text in texts], np.float32)
        except ValueError:
            self.classes = sorted(set(texts))
            number = {name: i for i, name in enumerate(self.classes)}
            self.targets = np.array([number[text] for text in texts], np.int64)

    def _number(self, text: str, line: int, column: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise CsvError(
                f"{self.path}:{line}: expected a number in column {column!r}, got {text!r}"
            ) from None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.pair(self.features[index], self.targets[index])


def _read(path: str, delimiter: str) -> tuple[list[str], list[list[str]], list[int]]:
    """The names of the columns, the rows, and the line that each row ends on."""
    rows, lines = [], []
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise CsvError(f"{path}: expected the names of the columns, got nothing")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise CsvError(
                        f"{path}:{reader.line_num}: expected {len(header)} columns, got {len(row)}"
                    )
                rows.append(row)
                lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise CsvError(f"{path}:{reader.line_num}: {error}") from error
    return header, rows, lines
