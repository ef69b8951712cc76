"""HDR and SDR by the formulas of the standards, a colour at a time, in float64, without code of the pack."""

from __future__ import annotations

import math
from collections.abc import Sequence

Colour = tuple[float, float, float]

# BT.2087-0 (M2, BT.709 to BT.2020) and BT.2407-0 (annex 2, the way back), as printed there.
TO_2020 = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))
TO_709 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
WHITE = 203.0  # cd/m2


def product(matrix: Sequence[Sequence[float]], colour: Sequence[float]) -> Colour:
    red, green, blue = (sum(a * b for a, b in zip(row, colour, strict=True)) for row in matrix)
    return red, green, blue


def luminance(light: Sequence[float]) -> float:
    return 0.2627 * light[0] + 0.6780 * light[1] + 0.0593 * light[2]


def pq(nits: float) -> float:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    y = (max(nits, 0) / 10000) ** m1
    return float(((c1 + c2 * y) / (1 + c3 * y)) ** m2)


def pq_nits(signal: float) -> float:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    e = signal ** (1 / m2)
    return float(10000 * (max(e - c1, 0) / (c2 - c3 * e)) ** (1 / m1))


def hlg(light: Colour) -> Colour:
    """Signal of the light of a screen of 1000 cd/m2: the inverse OOTF, then the OETF."""
    y = luminance(light) / 1000
    scene = [each / 1000 * y ** ((1 - 1.2) / 1.2) if y else 0.0 for each in light]
    red, green, blue = (
        math.sqrt(3 * e) if e <= 1 / 12 else 0.17883277 * math.log(12 * e - 0.28466892) + 0.55991073
        for e in scene
    )
    return red, green, blue


def hlg_nits(signal: Colour) -> Colour:
    scene = [
        e * e / 3 if e <= 0.5 else (math.exp((e - 0.55991073) / 0.17883277) + 0.28466892) / 12 for e in signal
    ]
    red, green, blue = (1000 * luminance(scene) ** 0.2 * e for e in scene)
    return red, green, blue


def of_sdr(patch: Sequence[float]) -> Colour:
    """Light in BT.2020 of an SDR colour, 0 to 255, with white at 203 cd/m2."""
    return product(TO_2020, [WHITE * (level / 255) ** 2.4 for level in patch])


def eetf(nits: float, peak: float) -> float:
    """BT.2390-11 section 5.4.1 from `peak` to 203 cd/m2, both blacks at 0."""
    most, target = pq(peak), pq(WHITE) / pq(peak)
    e = min(pq(nits) / most, 1.0)
    ks = 1.5 * target - 0.5
    if e >= ks:
        t = (e - ks) / (1 - ks)
        e = (
            (2 * t**3 - 3 * t**2 + 1) * ks
            + (t**3 - 2 * t**2 + t) * (1 - ks)
            + (-2 * t**3 + 3 * t**2) * target
        )
    return pq_nits(e * most)


def tone_mapped(light: Colour, peak: float) -> tuple[int, int, int]:
    """SDR levels of light in BT.2020. peak: brightest component of the clip."""
    if peak > WHITE and max(light) > 0:
        gain = eetf(max(light), peak) / max(light)
        light = (light[0] * gain, light[1] * gain, light[2] * gain)
    red, green, blue = (
        round(255 * min(max(part / WHITE, 0), 1) ** (1 / 2.4)) for part in product(TO_709, light)
    )
    return red, green, blue


def codes(signal: Sequence[float], *, full: bool = False) -> Colour:
    """10-bit Y'CbCr with the matrix of BT.2020, as numbers that are not rounded. BT.2100 tables 6 and 9."""
    y = luminance(signal)
    cb, cr = (signal[2] - y) / 1.8814, (signal[0] - y) / 1.4746
    if full:
        return 1023 * y, 1023 * cb + 512, 1023 * cr + 512
    return 876 * y + 64, 896 * cb + 512, 896 * cr + 512
