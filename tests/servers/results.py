"""What comes out of a provider: a clip and a picture that any player opens."""

from __future__ import annotations

import io
import json
from functools import cache

import av
import numpy as np
from PIL import Image

_WIDTH, _HEIGHT, _FRAMES, _FPS = 64, 48, 8, 16


@cache
def clip() -> bytes:
    """An MP4 in which a bar of light crosses the picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for number in range(_FRAMES):
            frame = np.full((_HEIGHT, _WIDTH, 3), 24, np.uint8)
            frame[:, number * 8 : number * 8 + 8] = (240, 200, 80)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@cache
def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (_WIDTH, _HEIGHT), (240, 200, 80)).save(buffer, "PNG")
    return buffer.getvalue()


def lora() -> bytes:
    """A safetensors file with one LoRA of rank 1 for one weight."""
    tensors, data = {}, b""
    for name, shape in (("lora_A", [1, 8]), ("lora_B", [8, 1])):
        key = f"transformer.blocks.0.attn1.to_q.{name}.weight"
        tensors[key] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 32]}
        data += bytes(32)
    header = json.dumps(tensors).encode()
    return len(header).to_bytes(8, "little") + header + data
