"""Metadata values that are equal in Python but different in a customer."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

LOOK_ALIKE: Final[list[tuple[Any, Any]]] = [
    *[(1, True), (True, 1), (0, False), (False, 0)],
    *[(1, 1.0), (1.0, 1), (True, 1.0), (False, 0.0)],
    *[(0, -0.0), (0.0, -0.0), (-0.0, 0.0), (False, -0.0)],
    *[(2**53, 2.0**53), (2**62, 2.0**62), (10**15, 1e15), (-(2**63), -(2.0**63))],
]

KEYS: Final = st.sampled_from(["a", "b", "n", "ключ", "e\u0301", "\u00e9"])
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.sampled_from([each for pair in LOOK_ALIKE for each in pair])
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "1", "true", "null", "a\nb", "x"])
)
METADATA: Final = st.dictionaries(KEYS, SCALARS, max_size=4)
