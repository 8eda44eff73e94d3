"""Drawings are well-formed, self-contained and say what they were given."""

import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from vocablo.views import page, svg, terminal


def test_curves_draw_every_finite_point_and_name_every_curve():
    drawn = svg.curves(
        [
            svg.Series("entrenamiento & más", ((0, 3.0), (1, 2.0), (2, math.nan))),
            svg.Series("óptimo", ((0, 1.0), (2, 1.0)), dashed=True),
        ],
        x="step",
        y="nats",
    )
    root = ET.fromstring(drawn)
    lines = root.findall("{*}polyline")
    assert [len(line.get("points").split()) for line in lines] == [2, 2]
    assert lines[1].get("stroke-dasharray")
    texts = [text.text for text in root.findall("{*}text")]
    assert "entrenamiento & más" in texts
    assert "óptimo" in texts
    heights = [float(point.split(",")[1]) for point in lines[0].get("points").split()]
    assert heights[0] < heights[1], "a greater loss stands higher"


def test_nothing_measured_is_said():
    assert "nothing measured" in svg.curves([svg.Series("a", ())], x="step", y="loss")


def test_bars_are_proportional_and_carry_the_reference():
    root = ET.fromstring(svg.bars([svg.Bar("refrigerador", 0.5, 0.25), svg.Bar("<freezer>", 0.25)], reference="true"))
    widths = [float(r.get("width")) for r in root.findall("{*}rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert "0.500 (0.250)" in [t.text for t in root.findall("{*}text")]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (4.2, 9.7), (-3, 120000), (1e-5, 3e-4)])
def test_ticks_are_round_and_inside(low, high):
    values = svg.ticks(low, high)
    assert 3 <= len(values) <= 8
    assert all(low - 1e-12 <= value <= high + 1e-12 for value in values)


def test_labels_are_kept_apart():
    places = svg._spread([50.0, 51.0, 52.0], 15, 0, 60)
    assert sorted(places) == places
    assert all(b - a >= 15 - 1e-9 for a, b in itertools.pairwise(places))


def test_terminal_table_aligns_accents_and_numbers():
    lines = terminal.table(("palabra", "p"), [("niño", 0.5), ("cigüeña", 0.25)]).splitlines()
    assert len({terminal.width(line) for line in lines[1:]}) == 1
    assert terminal.width("ñ") == terminal.width("n\u0303") == 1


def test_bars_of_blocks():
    assert terminal.bar(1.0, 4) == "████"
    assert terminal.bar(0.0, 4) == ""
    assert terminal.bar(1e-9, 4) == "▏"


def test_the_report_is_one_file_that_asks_for_nothing():
    metrics = [
        {"step": 1, "loss": 3.0, "lr": 1e-3, "tokens_per_second": 10.0},
        {"step": 2, "validation_loss": 2.5, "sample": "<b>hola"},
    ]
    text = page.run_report("Prueba", metrics, {"parameters": 12345})
    assert "12,345" in text
    assert "&lt;b&gt;hola" in text
    for forbidden in ("http://", "https://", "<script", "src=", "@import"):
        assert forbidden not in text.replace("http://www.w3.org/2000/svg", "")


def test_marks_stand_below_their_places_instead_of_round_numbers():
    drawn = svg.curves([svg.Series("a", ((0, 1), (2, 3)))], x="share", y="F1", marks={0: "1 %", 2: "100 %"})
    ET.fromstring(drawn)
    assert ">1 %<" in drawn
    assert ">100 %<" in drawn
    assert ">0.5<" not in drawn
    assert ">0.5<" in svg.curves([svg.Series("a", ((0, 1), (2, 3)))], x="share", y="F1")
