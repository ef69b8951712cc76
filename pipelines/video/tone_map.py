"""Tone-maps HDR pictures (PQ or HLG) to SDR, in linear light. HDR white at 203 cd/m2 becomes SDR white.

The steps: from the signal to light (BT.2100); the EETF of BT.2390 on the largest component of a pixel, which
keeps its hue; to the primaries of BT.709, where colours outside are clipped (BT.2407 section 2); to the
signal of an SDR screen (BT.1886).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .frame_stream import Frame

__all__ = ["PRIMARIES", "WHITE_NITS", "HdrTransfer", "Signal", "ToneMap", "eetf", "grey_nits"]

HdrTransfer: TypeAlias = Literal["PQ", "HLG"]
Signal: TypeAlias = NDArray[np.uint16]
"""(H, W, 3) R'G'B' in full range: 65535 is the largest signal."""
_Light: TypeAlias = NDArray[np.float32]  # cd/m2

WHITE_NITS = 203.0  # HDR reference white, BT.2408 table 1, cd/m2
_PQ_NITS = 10_000.0  # light of the largest PQ signal, cd/m2
_HLG_NITS, _HLG_GAMMA = 1000.0, 1.2  # nominal screen of HLG and its system gamma, BT.2100 table 5
_SDR_GAMMA = 2.4  # BT.1886
_MOST = 65535

# ITU-T H.273 table 2: x and y of red, green and blue. The white of all is D65.
PRIMARIES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "smpte432": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


@dataclass(frozen=True)
class ToneMap:
    """Converts the HDR signal of a frame to an SDR frame.

    primaries: one of PRIMARIES.
    peak_nits: the brightest light of the clip; what is brighter becomes as bright. Up to `WHITE_NITS` no
               light is compressed.
    """

    transfer: HdrTransfer
    primaries: str
    peak_nits: float

    def __call__(self, signal: Signal) -> Frame:
        light = _light(signal, self.transfer, self.primaries)
        if self.peak_nits > WHITE_NITS:
            light *= _gains(self.peak_nits)[_place(_largest(light) / np.float32(_PQ_NITS))][..., None]
        return _sdr_levels()[_place(light @ _to_sdr(self.primaries))]


def grey_nits(signal: float, transfer: HdrTransfer) -> float:
    """Return the light in cd/m2 of a grey with that signal, 0 to 1."""
    light = float(_curve(transfer)[round(signal * _MOST)])
    return light if transfer == "PQ" else _HLG_NITS * light**_HLG_GAMMA


def eetf(nits: NDArray[np.float64], peak_nits: float) -> NDArray[np.float64]:
    """Compress light of up to `peak_nits` to `WHITE_NITS`. BT.2390-11 section 5.4.1, both blacks at 0."""
    most = _pq(np.float64(peak_nits))
    signal, target = np.minimum(_pq(nits) / most, 1), _pq(np.float64(WHITE_NITS)) / most
    knee = 1.5 * target - 0.5
    t = (signal - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee
    spline += (t**3 - 2 * t**2 + t) * (1 - knee)
    spline += (-2 * t**3 + 3 * t**2) * target
    return _pq_light(np.where(signal < knee, signal, spline) * most)


def _light(signal: Signal, transfer: HdrTransfer, primaries: str) -> _Light:
    """Return the light of each component on a screen."""
    light = _curve(transfer)[signal]
    if transfer == "HLG":
        # A screen for HLG raises the luminance of the scene to a power, and keeps the ratios of components.
        luminance = light @ _to_xyz(primaries)[1].astype(np.float32)
        light *= np.float32(_HLG_NITS) * luminance[..., None] ** np.float32(_HLG_GAMMA - 1)
    return light


def _largest(light: _Light) -> _Light:
    return np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])


def _place(share: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return where a table of `_shares` has a number between 0 and 1. Others are clipped."""
    place: NDArray[np.float32] = np.sqrt(share.clip(0, 1)) * _MOST + np.float32(0.5)
    return place.astype(np.uint16)


def _shares() -> NDArray[np.float64]:
    """Return numbers from 0 to 1 that are denser near 0, as dark levels are."""
    return np.linspace(0, 1, _MOST + 1) ** 2


@cache
def _curve(transfer: HdrTransfer) -> _Light:
    """Return cd/m2 for each PQ signal, or the light of the scene, 0 to 1, for each HLG signal."""
    signal = np.linspace(0, 1, _MOST + 1)
    light = _pq_light(signal) if transfer == "PQ" else _hlg_scene(signal)
    return light.astype(np.float32)


@cache
def _gains(peak_nits: float) -> _Light:
    nits = _shares() * _PQ_NITS
    nits[0] = nits[1]  # black stays black with any gain
    return (eetf(nits, peak_nits) / nits).astype(np.float32)


@cache
def _sdr_levels() -> Frame:
    levels: NDArray[np.float64] = _shares() ** (1 / _SDR_GAMMA) * 255
    return np.asarray(levels.round(), np.uint8)


@cache
def _to_sdr(primaries: str) -> NDArray[np.float32]:
    """Return the matrix, (3 from, 3 to), from cd/m2 to BT.709 with white at 1."""
    matrix: NDArray[np.float64] = np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(primaries) / WHITE_NITS
    return np.asarray(matrix.T, np.float32)


@cache
def _to_xyz(primaries: str) -> NDArray[np.float64]:
    """Return the matrix, (3 to, 3 from), from R, G, B to CIE X, Y, Z. SMPTE RP 177 section 3.3."""
    corners = np.array([_xyz(*corner) for corner in PRIMARIES[primaries]]).T
    return np.asarray(corners * np.linalg.solve(corners, _xyz(*_D65)))


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1, (1 - x - y) / y])


_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq(nits: Any) -> Any:
    """Return the PQ signal, 0 to 1, of light in cd/m2. BT.2100 table 4."""
    power = (nits / _PQ_NITS) ** _PQ_M1
    return ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the light in cd/m2 of a PQ signal, 0 to 1. BT.2100 table 4."""
    root = signal ** (1 / _PQ_M2)
    return _PQ_NITS * (np.maximum(root - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1)


def _hlg_scene(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the light of the scene, 0 to 1, of an HLG signal, 0 to 1. BT.2100 table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
