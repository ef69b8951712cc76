"""Small HDR videos of patches, written by PyAV alone."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from . import hdr_reference as reference
from .hdr_reference import codes, hlg, pq

WHITE, RED, SKIN = (255, 255, 255), (200, 50, 50), (224, 172, 140)
SIZE = 64  # pixels on each side of a patch
# A screen of BT.2020, 0.005 to 1000 cd/m2, in x265's units of 0.00002 and 0.0001 cd/m2.
GRADED = (
    "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"
)


def signal_of(light: reference.Colour, transfer: str) -> reference.Colour:
    if transfer == "HLG":
        return hlg(light)
    return pq(light[0]), pq(light[1]), pq(light[2])


def hdr_frame(lights: list[reference.Colour], transfer: str, *, full: bool = False) -> av.VideoFrame:
    """Patches of that light from left to right, 10 bits, BT.2020."""
    frame = av.VideoFrame(SIZE * len(lights), SIZE, "yuv420p10le")
    for number, plane in enumerate(frame.planes):
        row = np.concatenate(
            [
                np.full(
                    plane.width // len(lights), round(codes(signal_of(each, transfer), full=full)[number])
                )
                for each in lights
            ]
        )
        padded = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        padded[:, : len(row)] = row
        plane.update(padded.tobytes())
    return frame


def write_hdr(
    path: Path,
    lights: list[reference.Colour],
    transfer: str = "HLG",
    *,
    count: int = 2,
    full: bool = False,
    primaries: int = 9,
    matrix: int = 9,
    trc: int | None = None,
    params: str = "",
) -> Path:
    with av.open(str(path), "w") as output:
        options = {"crf": "4", "preset": "ultrafast", "x265-params": f"log-level=none:bframes=0:{params}"}
        stream = output.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = SIZE * len(lights), SIZE, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.colorspace = primaries, matrix
        context.color_trc = {"HLG": 18, "PQ": 16}[transfer] if trc is None else trc
        context.color_range = 2 if full else 1
        context.codec_tag = "hvc1" if path.suffix == ".mp4" else context.codec_tag
        for _ in range(count):
            output.mux(stream.encode(hdr_frame(lights, transfer, full=full)))
        output.mux(stream.encode(None))
    return path
