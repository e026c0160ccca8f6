"""A bar chart as SVG, made only of text and rectangles, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _LABEL, _BAR, _GAP, _HEAD = 720, 210, 16, 6, 30
_OURS, _THEIRS = "#2f6fde", "#9aa4b2"


def bars(
    title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float]]]], unit: str, ours: str = "custsvc"
) -> str:
    """Groups of (label, value); each group has its own scale. Labels that begin with `ours` are ours."""
    parts: list[str] = []
    y = _HEAD
    for name, rows in groups:
        y += _HEAD
        parts.append(f'<text x="0" y="{y - 8}" font-weight="bold">{escape(name)}</text>')
        most = max(value for _, value in rows) or 1
        for label, value in rows:
            parts += _row(label, value, value / most, y, ours)
            y += _BAR + _GAP
    head = f'<text x="0" y="18" font-size="15" font-weight="bold">{escape(title)} ({escape(unit)})</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 10}" width="{_WIDTH}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#57606a">\n'
        + "\n".join([head, *parts])
        + "\n</svg>\n"
    )


def _row(label: str, value: float, share: float, y: int, ours: str) -> list[str]:
    width = max(1, round(share * (_WIDTH - _LABEL - 80)))
    color = _OURS if label.startswith(ours) else _THEIRS
    shown = f"{value:,.0f}" if value >= 100 else f"{value:,g}"
    return [
        f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(label)}</text>',
        f'<rect x="{_LABEL}" y="{y}" width="{width}" height="{_BAR}" rx="2" fill="{color}"/>',
        f'<text x="{_LABEL + width + 6}" y="{y + 12}">{shown}</text>',
    ]
