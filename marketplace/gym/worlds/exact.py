"""Sine and cosine that every machine computes alike.

IEEE 754 fixes +, -, *, / and square roots to the last bit; sine and cosine are each library's own,
and NumPy's depend on the processor. One bit decides nothing today and a pole's fall after a hundred
steps, so worlds with physics compute them here, from the four operations alone. Errors stay under
1e-15 for angles below 1000.
"""

from __future__ import annotations

import math
from typing import Any, Final

# pi/2 in two parts, the first with so few bits that its small multiples are exact (Cody and Waite).
_HALF_PI_HIGH: Final = 1.57079632673412561417e00
_HALF_PI_LOW: Final = 6.07710050650619224932e-11

_LARGEST: Final = 1000.0


def sin(angle: float) -> float:
    """The sine. ValueError for angles over 1000, where the reduction would lose bits."""
    return _turned(angle, 0)


def cos(angle: float) -> float:
    """The cosine. Errors as `sin`."""
    return _turned(angle, 1)


class ExactNumpy:
    """NumPy, but for sine and cosine of single numbers."""

    sin = staticmethod(sin)
    cos = staticmethod(cos)

    def __getattr__(self, name: str) -> Any:
        import numpy

        return getattr(numpy, name)


class ExactMath:
    """The math module, but for sine and cosine."""

    sin = staticmethod(sin)
    cos = staticmethod(cos)

    def __getattr__(self, name: str) -> Any:
        return getattr(math, name)


def _turned(angle: float, quarters: int) -> float:
    """The sine of angle + quarters * pi/2."""
    value = float(angle)
    if not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"angle {value} is not within {_LARGEST:g}")
    turns = math.floor(value / _HALF_PI_HIGH + 0.5)
    rest = (value - turns * _HALF_PI_HIGH) - turns * _HALF_PI_LOW
    quadrant = (turns + quarters) % 4
    result = _cos_series(rest) if quadrant % 2 else _sin_series(rest)
    return -result if quadrant >= 2 else result


def _sin_series(x: float) -> float:
    square = x * x
    total = 0.0
    for k in (17, 15, 13, 11, 9, 7, 5, 3):
        total = (total + 1.0) * (-square / ((k - 1) * k))
    return x + x * total


def _cos_series(x: float) -> float:
    square = x * x
    total = 0.0
    for k in (18, 16, 14, 12, 10, 8, 6, 4, 2):
        total = (total + 1.0) * (-square / ((k - 1) * k))
    return 1.0 + total
