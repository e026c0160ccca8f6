"""The small drawing of a step's last values, and its words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from custsvc.web.trend import HEIGHT, WIDTH, Trend
from custsvc.web.words import rate


@given(st.lists(st.floats(0, 1e12), min_size=2, max_size=90))
def test_a_line_stays_in_its_box_and_its_highest_point_is_the_greatest_value(values: list[float]) -> None:
    points = [
        tuple(map(float, point.split(","))) for point in Trend(tuple(values), "/s", 1.0).line.split(" ")
    ]

    assert len(points) == len(values)
    assert all(0 <= x <= WIDTH + 0.1 and 0 < y < HEIGHT for x, y in points)
    assert points[values.index(max(values))][1] == min(y for _, y in points)


def test_words_say_what_the_line_shows() -> None:
    assert Trend((0.0,), "/s", 1.0).words == "Looking for a moment"
    assert Trend((0.0, 0.0, 0.0), "/s", 1.0).words == "Last 2 s: nothing came"
    assert Trend((0.0, 0.04), "/s", 1.0).words == "Last 1 s: most 0.1/s"
    assert Trend((1200.0, 3.0), " waiting", 1.0).words == "Last 1 s: most 1,200 waiting"
    assert [rate(value) for value in (None, 0, 0.01, 12)] == ["–", "idle", "0.1/s", "12/s"]
