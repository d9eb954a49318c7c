"""The tables of docs/onnx.md, made from the registries: ``python -m tests.onnx.coverage``.

Without arguments the page is brought up to date; ``--check`` says whether it is.
"""

from __future__ import annotations

import functools
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.onnx import export_graph
from dualgraph_compiler.onnx.operator_rules import rule_for
from dualgraph_compiler.onnx.values import FUNCTIONS, function_of
from dualgraph_compiler.ops import REGISTRY
from dualgraph_compiler.ops.onnx_rules import RULES
from tests.native.interpreted import INTERPRETED
from tests.onnx.export_matrix import OPSETS, exported, graph_of, needed_opset
from tests.op_samples import EAGER_ONLY, OpSamples, all_samples

PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")
_PLUMBING = {"Constant", "Identity"}


class Exports:
    """What the samples of every op are written as, at every opset."""

    def __init__(self) -> None:
        self.opsets: dict[str, list[int]] = {}  # op -> where it can be written
        self.reasons: dict[str, str] = {}  # op -> why not, where it cannot
        self.writers: dict[str, set[str]] = defaultdict(set)  # operator -> ops
        self.alone: dict[str, set[str]] = defaultdict(set)  # where it is all that is written
        self.newest: dict[str, list[str]] = {}  # op -> operators at the newest opset
        for name, record in all_samples().items():
            self._add(name, record)

    def _add(self, name: str, record: OpSamples) -> None:
        every: list[set[int]] = []
        self.opsets[name] = []
        for index in _varied(record):
            graph = graph_of(record.samples[index])
            every.append(set())
            for opset in OPSETS:
                try:
                    model = export_graph(graph, opset=opset)
                except OnnxError as error:
                    self.reasons[name] = str(error)
                    if needed_opset(error) <= opset:
                        break
                    continue
                found = [*_operators(model.graph)]
                every[-1].add(opset)
                self.newest[name] = found
                for operator in found:
                    self.writers[operator].add(name)
                if len(found) == 1:
                    self.alone[found[0]].add(name)
        self.opsets[name] = sorted(set.intersection(*every)) if every else []
        if isinstance(record.onnx, str):
            self.reasons[name] = record.onnx
        elif not every:
            self.reasons[name] = _refusal(record)


def _refusal(record: OpSamples) -> str:
    """What the export of a sample that has no form says."""
    try:
        export_graph(graph_of(record.samples[0]))
    except OnnxError as error:
        return str(error)
    return ""


def _varied(record: OpSamples) -> list[int]:
    """The first sample of each kind of operand, floating-point ones last."""
    first: dict[str, int] = {}
    for i, sample in enumerate(record.samples):
        if exported(record, i):
            first.setdefault(sample.inputs[0].dtype.kind if sample.inputs else "", i)
    return [first[kind] for kind in sorted(first, key=lambda kind: (kind == "f", kind))]


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.op_type not in _PLUMBING:
            yield node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _operators(attribute.g)


# -- the operators of ONNX -------------------------------------------------------------------------


@functools.cache
def operators() -> dict[str, list[int]]:
    """Every operator by its full name, and the versions it has had."""
    found: dict[str, list[int]] = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in DOMAINS:
            found[_full(schema.domain, schema.name)].append(schema.since_version)
    return {name: sorted(versions) for name, versions in sorted(found.items())}


def _full(domain: str, name: str) -> str:
    return f"{domain}::{name}" if domain else name


def way(operator: str) -> str:
    """How a node of this operator runs."""
    domain, _, name = operator.rpartition("::")
    rule, function = rule_for(operator) is not None, function_of(operator)
    if rule:
        return "static; values" if function is not None else "static"
    if operator in FUNCTIONS:
        return "values"
    if function is not None:
        return "reference"
    if operator not in operators():
        return "not supported"
    schema = onnx.defs.get_schema(name, domain)
    if schema.deprecated and not domain:
        return "static, as what replaced it"
    if schema.has_function or schema.has_context_dependent_function:
        return "static, by its definition"
    return "not supported"


def native(ops: Iterable[str]) -> str:
    """Whether ops have compiled kernels."""
    kinds = set()
    for op in ops:
        why = [reason for name, reason in INTERPRETED.get(op, ()) if name == op]
        kinds.add("interpreted" if f"{op} has no native form yet" in why else "native")
    return " or ".join(sorted(kinds, reverse=True))


def operator_table(exports: Exports) -> str:
    """The coverage of ONNX's operators."""
    rows = []
    every = operators()
    for operator, versions in every.items():
        own = sorted(exports.alone.get(operator, ()) or {snake(operator)} & set(REGISTRY))
        ops = own or sorted(exports.writers.get(operator, ()))
        found = way(operator)
        shown = ", ".join(f"`{op}`" for op in ops[:3]) + (", ..." if len(ops) > 3 else "")
        rows.append(
            (
                f"`{operator}`",
                ", ".join(map(str, versions)),
                found,
                native(own) or ("of other ops" if found.startswith("static") else ""),
                shown,
            )
        )
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row[2].split(",")[0].split(";")[0]] += 1
    said = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items(), key=lambda x: -x[1]))
    head = ("operator", "versions", "way", "kernels", "written for")
    return f"{len(rows)} operators: {said}.\n\n" + table(head, rows)


def foreign_table() -> str:
    """Operators outside the standard that have rules."""
    names = [n for n in sorted({*RULES, *FUNCTIONS}) if "::" in n and n not in operators()]
    return ", ".join(f"`{n}`" for n in names) + "."


def snake(operator: str) -> str:
    """An operator's name as an op of ours would have it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operator).lower()


# -- our ops ---------------------------------------------------------------------------------------


def op_table(exports: Exports) -> str:
    """The opsets that every op can be exported at."""
    rows = []
    for op in sorted(REGISTRY):
        opsets = exports.opsets.get(op, [])
        if opsets == list(OPSETS):
            said = f"{OPSETS[0]}-{OPSETS[-1]}"
        elif opsets:
            said = f"{opsets[0]}-{opsets[-1]}"
        else:
            said = f"no: {exports.reasons.get(op, 'it runs eagerly only')}"
        written = list(dict.fromkeys(exports.newest.get(op, ())))
        shown = ", ".join(f"`{name}`" for name in written[:4]) + (
            ", ..." if len(written) > 4 else ""
        )
        kernels = "" if op in EAGER_ONLY else native([op])
        rows.append((f"`{op}`", said, shown, kernels))
    whole = sum(row[1] == f"{OPSETS[0]}-{OPSETS[-1]}" for row in rows)
    said = f"{len(rows)} ops, of which {whole} can be written at every opset from 13 to 28."
    return f"{said}\n\n" + table(("op", "opsets", "written as", "kernels"), rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, tuple("---" for _ in lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# -- the page --------------------------------------------------------------------------------------


def updated(page: str) -> str:
    """The page with its generated parts made anew."""
    exports = Exports()
    parts = {
        "operators": operator_table(exports),
        "other domains": foreign_table(),
        "ops": op_table(exports),
    }
    for name, text in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, found, rest = page.partition(begin)
        assert found, f"docs/onnx.md has no place for the part {name!r}"
        page = before + begin + text + "\n" + end + rest.partition(end)[2]
    return page


def main(arguments: list[str]) -> int:
    """Bring the page up to date, or with ``--check`` say whether it is."""
    old = PAGE.read_text(encoding="utf-8")
    new = updated(old)
    if arguments == ["--check"]:
        print("up to date" if new == old else "docs/onnx.md is stale")
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
