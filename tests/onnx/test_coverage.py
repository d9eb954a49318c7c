"""docs/onnx.md says what is so."""

from __future__ import annotations

from tests.onnx.coverage import PAGE, operators, updated, way


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert updated(page) == page, "run `python -m tests.onnx.coverage`"


def test_ways() -> None:
    assert way("Conv") == "static"
    assert way("AffineGrid") == "static"
    assert way("Upsample") == "static, as what replaced it"
    assert way("SequenceAt") == "values"
    assert way("ImageDecoder") == "reference"
    assert way("com.example::Unknown") == "not supported"
    assert len(operators()) > 220
