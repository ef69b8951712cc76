"""A request of any kind with what it needs."""

from __future__ import annotations

from typing import Any

from wan_duet.pipelines.request import KINDS, WanRequest, parse

NEEDED = {
    "prompt": "a",
    "image_url": "https://a/b.png",
    "video_url": "https://a/b.mp4",
    "audio_url": "https://a/b.wav",
    "mask_video_url": "https://a/mask.mp4",
    "video_urls": ["https://a/b.mp4"],
    "start_image_url": "https://a/b.png",
    "match_input_num_frames": False,
    "match_input_frames_per_second": False,
    "width": 832,
    "height": 480,
    "seed": 7,
}


def request(kind: str, **values: Any) -> WanRequest:
    return parse(kind, {**needed_by(kind), **values})


def needed_by(kind: str) -> dict[str, Any]:
    """What makes a request of a kind that its provider takes."""
    needed = {name: value for name, value in NEEDED.items() if name in KINDS[kind].model_fields}
    if kind == "wan27-image-to-video":
        del needed["video_url"]  # not beside an image
    return needed
