"""What the benchmark makes of its figures: ratios of a round, goals, the chart, the README's part."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from tests.benchmarks import readme
from tests.benchmarks.chart import Bars, drawn
from tests.benchmarks.rows import Row, rowed, table

ROOT = Path(__file__).parents[1]


def row(name: str = "restart", **goals: float) -> Row:
    """A machine that gets slower and slower, by which its ratios do not change."""
    made = Row(name, ratios=goals)
    for slowness in (1.0, 2.0, 30.0):
        made.add("local", 0.1 * slowness)
        made.add("docker", 0.05 * slowness)
        made.add("bubblewrap", 0.02 * slowness)
    return made


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    found = row()
    assert found.ratio("docker") == pytest.approx(0.5)
    assert found.quartiles("bubblewrap") == pytest.approx((0.2, 0.2))
    assert found.median("local") == pytest.approx(200)


def test_goal_that_is_missed_is_named_with_its_engine() -> None:
    found = row(docker=0.6, bubblewrap=0.19)
    assert found.misses() == ["bubblewrap"]
    assert "MISSED by bubblewrap" in table([found], "title")
    assert "MISSED" not in table([row(docker=0.6, bubblewrap=0.21)], "title")


def test_figures_come_back_from_a_file() -> None:
    found = row(docker=0.6)
    again = rowed(json.loads(json.dumps(found.as_json())), row(docker=0.4))
    assert again.found == found.found
    assert again.misses() == ["docker"]


def test_chart_is_an_image_with_a_bar_for_each_side_inside_it() -> None:
    lengths = {"local": 1.0, "docker": 0.5, "bubblewrap": 2.5}
    picture = xml.fromstring(drawn([Bars("a <b>", lengths, dict.fromkeys(lengths, "1 & 2"))]))
    bars = [one for one in picture.iter() if one.get("rx") == "2" and one.get("height") == "15"]
    widths = {str(bar.get("class")): float(bar.attrib["width"]) for bar in bars}
    assert {side: width / widths["local"] for side, width in widths.items()} == pytest.approx(lengths, rel=0.01)
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < float(picture.attrib["width"]) for bar in bars)


def test_readme_has_places_for_all_figures() -> None:
    page = (ROOT / "README.md").read_text()
    rows = [row(name) for name in readme.WORDS]
    markdown = readme.as_markdown(rows, {"rounds": "3", "machine": "it"})
    told = readme.in_engine_table(readme.replaced(page, markdown), rows)
    assert len(re.findall(r"100 ms: 0.50 \(0.50–0.50\)", told)) == len(rows)
    assert len(re.findall(r"\| 40 ms, with pandas 40 ms \|", told)) == 1
