"""Drawings: well-formed, escaped, without overlaps; the networkx bridge."""

from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualgraph_compiler import Dim, Graph, TensorType, parse_graph
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import Location
from dualgraph_compiler.graph.draw import MAX_DRAWN, to_dot, to_svg
from dualgraph_compiler.graph.groups import groups_of
from dualgraph_compiler.graph.layout import layout
from dualgraph_compiler.graph.networkx import to_networkx
from dualgraph_compiler.graph.page import render, to_html
from dualgraph_compiler.graph.page_assets import SCRIPT
from dualgraph_compiler.graph.steps import steps_of
from dualgraph_compiler.ops.base import Kind
from dualgraph_compiler.ops.control import If
from dualgraph_compiler.ops.pointwise import Add, Neg

TEXT = """\
graph scale(%x: f32[batch, 3]):
  param %weight: f32[3] = [1.0, 2.0, 3.0]
  const %c0: f32[] = 2.0
  %1: f32[batch, 3] = mul(%x, %weight)  # model.py:7
  %2: f32[batch, 3] = add(%1, %1)
  %3: f32[batch] = sum(%2, axes=(1,), keepdims=False)
  %4: f32[batch] = mul(%3, %c0)
  return %4 as y, %x as same"""
HOSTILE = "<script>alert('x')</script>\"&\x00\x1b]]>"


def hostile() -> Graph:
    graph = Graph(HOSTILE)
    x = graph.add_input(TensorType(float32, (Dim("n"),)), HOSTILE)
    graph.loc = Location(HOSTILE, 3, HOSTILE, HOSTILE)
    y = Neg()(Add()(x, graph.add_param(np.ones((), np.float32), HOSTILE + "w")))
    y.name = HOSTILE
    graph.set_outputs([y], [HOSTILE])
    return graph


def chain(length: int) -> Graph:
    graph = Graph("chain")
    x = graph.add_input(TensorType(float32, (4,)), "x")
    for _ in range(length):
        x = Neg()(x)
    graph.set_outputs([x])
    return graph


class Checker(html.parser.HTMLParser):
    """Notes the tags, the scripts, and the addresses of everything a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script":
            self.scripts.append(data)

    def handle_endtag(self, tag):
        if tag == "script":
            self.tags.append("/script")


def check_page(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.loads == []
    assert checker.handlers == []
    assert "".join(checker.scripts) == SCRIPT  # the page's own, which its policy names
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert "url(" not in page
    assert "@import" not in page
    return checker


def test_svg_is_well_formed_and_complete():
    root = ET.fromstring(to_svg(parse_graph(TEXT)))
    text = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert text.count("mul") == 2
    assert "weight: f32[3]" in text
    assert "2" in text
    assert "→ f32[batch, 3]" in text
    titles = [e.text for e in root.iter() if e.tag.endswith("title")]
    assert any("model.py:7" in t and "= mul(%x, %weight)" in t for t in titles)


def test_everything_from_the_graph_is_escaped():
    graph = hostile()
    svg = to_svg(graph)
    ET.fromstring(svg)
    assert "<script" not in svg
    check_page(to_html(graph))
    check_page(to_html(graph, before=graph, title=HOSTILE))
    assert '""' not in to_dot(graph)


def test_pages():
    graph = parse_graph(TEXT)
    page = to_html(graph)
    checker = check_page(page)
    assert checker.tags.count("svg") == checker.tags.count("section") == 1
    assert "nav" not in checker.tags
    assert "4 nodes: mul ×2, add ×1, sum ×1" in page
    both = to_html(graph, before=graph, title="digits")
    assert check_page(both).tags.count("svg") == 2
    assert "<title>digits</title>" in both
    assert both.index(">before <em>4") < both.index(">after <em>4")


def test_notebooks_get_the_page_in_a_frame():
    frame = parse_graph(TEXT)._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert frame.count("<") == 2
    page = html.unescape(frame.split('"')[1])
    assert page == to_html(parse_graph(TEXT))


STEPPED = """\
graph work(%x: f32[n, 3]):
  const %one: f32[] = 1.0
  %1: f32[n, 3] = exp(%x)
  %2: f32[n, 3] = mul(%x, %one)
  %3: f32[n, 3] = neg(%2)
  return %3 as y"""


def test_passes_are_steps():
    steps = steps_of(parse_graph(STEPPED))
    shown = [s for s in steps if s.drawn is not None]
    dead = "remove dead code"
    assert [s.title for s in shown] == ["as traced", dead, "simplify", dead]
    assert [s.nodes for s in shown] == [3, 2, 1, 1]
    assert [s.count("going") for s in shown] == [1, 1, 0, 0]
    assert [s.count("changed") for s in shown] == [0, 0, 1, 0]
    assert shown[1].removed == ["%1: f32[n, 3] = exp(%x)"]
    assert shown[2].removed == ["%1: f32[n, 3] = mul(%x, %one)"]
    page = render(steps, "work")
    checker = check_page(page)
    assert checker.tags.count("svg") == 4
    assert page.count('<g class="going">') == 2
    assert page.count('<g class="changed">') == 1
    assert page.count('<span class="idle"') == len(steps) - 4
    assert 'max="3"' in page


def test_large_graphs_are_drawn_by_module():
    graph = chain(3 * MAX_DRAWN)
    for i, node in enumerate(graph.nodes):
        node.loc = Location("m.py", i, "forward", f"net.block{i // 100}.inner{i // 50}")
    page = to_html(graph)
    checker = check_page(page)
    assert "svg" in checker.tags
    assert checker.tags.count("g") <= MAX_DRAWN
    assert "net.block11.inner23" in page
    assert len(page) < 200_000
    ET.fromstring(to_svg(graph))


@pytest.mark.parametrize("scopes", [0, 2, 5000])
def test_groups_are_few_and_in_order(scopes):
    graph = chain(5000)
    for i, node in enumerate(graph.nodes):
        node.loc = Location("m.py", i, "", f"a.b{i * scopes // 5000}" if scopes else "")
    groups = groups_of(list(graph.nodes), 100)
    assert 50 <= len(groups) <= 100
    assert [n for _, run in groups for n in run] == list(graph.nodes)


def test_show_writes_the_page(tmp_path: Path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    graph = parse_graph(TEXT)
    path = tmp_path / "graph.html"
    assert graph.show(str(path), passes=False) == str(path)
    assert path.read_text(encoding="utf-8") == to_html(graph)
    assert opened == []  # nobody is at a prompt
    temporary = Path(graph.show(open=True))
    assert opened == [temporary.as_uri()]
    assert "as traced" in temporary.read_text(encoding="utf-8")
    temporary.unlink()
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    graph.show(str(path))
    assert opened[1:] == [path.as_uri()]


def test_the_users_code_is_shown_where_it_has_run():
    graph = chain(1)
    (node,) = graph.nodes
    node.loc = Location(__file__, STEPPED_LINE, "f")
    page = to_html(graph)
    assert f"<span class=here><i>{STEPPED_LINE}</i>STEPPED = &quot;&quot;&quot;" in page
    assert "data-source=" in page
    node.loc = Location("/etc/passwd", 1)  # what a model file might say
    assert "root:" not in to_html(graph)


_LINES = enumerate(Path(__file__).read_text().splitlines(), 1)
STEPPED_LINE = next(n for n, line in _LINES if line.startswith("STEPPED ="))


def test_nested_graphs_are_drawn():
    body = chain(2)
    graph = Graph("outer")
    x = graph.add_input(TensorType(float32, (4,)), "x")
    flag = graph.constant(np.array(True))
    graph.set_outputs(list(graph.add_node(If(body, body.copy()), [flag, x]).outputs))
    page = to_html(graph)
    assert check_page(page).tags.count("svg") == 3
    assert "%1 if, then_branch</summary>" in page


def test_dot():
    dot = to_dot(parse_graph(TEXT))
    assert dot.startswith("digraph {")
    assert dot.count("->") == 6
    assert 'label="mul\\nweight: f32[3]\\n→ f32[batch, 3]"' in dot


@pytest.mark.parametrize("build", [lambda: Graph("empty"), lambda: chain(0)])
def test_graphs_without_nodes(build):
    graph = build()
    graph.set_outputs(graph.inputs)
    ET.fromstring(to_svg(graph))
    check_page(to_html(graph))
    to_dot(graph)
    assert to_networkx(graph).number_of_edges() == len(graph.outputs)


@st.composite
def dags(draw):
    count = draw(st.integers(1, 25))
    pairs = list(itertools.combinations(range(count), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=40)) if pairs else []
    sizes = [(draw(st.integers(20, 200)), draw(st.integers(20, 60))) for _ in range(count)]
    return sizes, edges


@given(dags())
@settings(max_examples=200)
def test_boxes_do_not_overlap_and_edges_avoid_them(dag):
    sizes, edges = dag
    placed = layout(sizes, edges)
    boxes = [
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        for (x, y), (w, h) in zip(placed.centres, sizes, strict=True)
    ]
    for x0, y0, x1, y1 in boxes:
        assert x0 >= -0.01
        assert y0 >= -0.01
        assert x1 <= placed.width + 0.01
        assert y1 <= placed.height + 0.01
    for a, b in itertools.combinations(boxes, 2):
        apart = a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
        assert apart, (a, b)
    for (a, b), route in zip(edges, placed.routes, strict=True):
        assert placed.centres[a][1] < placed.centres[b][1]
        assert route[0][0] == placed.centres[a][0]
        assert route[-1][0] == placed.centres[b][0]
        # Where an edge passes a row it keeps clear of the boxes there.
        for (x, top), (_, bottom) in zip(route[1:-1:2], route[2:-1:2], strict=True):
            for x0, y0, x1, y1 in boxes:
                assert not (x0 < x < x1 and y0 < bottom and top < y1)


def test_a_chain_is_a_straight_line():
    placed = layout([(50, 20), (90, 20), (70, 20)], [(0, 1), (1, 2)])
    assert {x for x, _ in placed.centres} == {45.0}


def test_networkx():
    graph = parse_graph(TEXT)
    g = to_networkx(graph)
    assert isinstance(g, nx.MultiDiGraph)
    assert nx.is_directed_acyclic_graph(g)
    assert set(g) == {"%x", "%weight", "%c0", "%1", "%2", "%3", "%4", "return 0", "return 1"}
    assert g.number_of_edges("%1", "%2") == 2
    assert {d["operand"] for _, _, d in g.edges("%1", data=True)} == {0, 1}
    kinds = nx.get_node_attributes(g, "kind")
    assert kinds["%x"] == "input"
    assert kinds["%weight"] == "param"
    assert kinds["%c0"] == "constant"
    assert kinds["%3"] == Kind.REDUCTION.value
    assert kinds["return 1"] == "output"
    first = g.nodes["%1"]
    assert first["op"] == "mul"
    assert first["loc"] == "model.py:7"
    assert first["shape"] == ("batch", 3)
    assert first["dtype"] == "float32"
    assert first["ref"] is next(graph.nodes)
    assert g.nodes["%3"]["attributes"] == {"axes": (1,), "keepdims": False}
    assert set(nx.ancestors(g, "return 0")) == {"%x", "%weight", "%c0", "%1", "%2", "%3", "%4"}
    assert list(graph.to_networkx().edges) == list(g.edges)
