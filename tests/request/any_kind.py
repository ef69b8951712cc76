"""A request of any kind with what it needs."""

from __future__ import annotations

from typing import Any

from wan_duet.pipelines.request import KINDS, WanRequest, parse

NEEDED = {
    "prompt": "a",
    "image_url": "https://a/b.png",
    "video_url": "https://a/b.mp4",
    "audio_url": "https://a/b.wav",
    "width": 832,
    "height": 480,
    "seed": 7,
}


def request(kind: str, **values: Any) -> WanRequest:
    needed = {name: value for name, value in NEEDED.items() if name in KINDS[kind].model_fields}
    return parse(kind, {**needed, **values})
