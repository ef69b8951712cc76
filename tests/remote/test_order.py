"""What an order promises: everything that the runner cannot do is said before a byte leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.remote.order import order_for, uploading
from wan_duet.pipelines.request import parse

from .workshop import Workshop

OUT = Path("film.mp4")


def test_a_seed_that_is_not_set_is_drawn_and_sent() -> None:
    request = parse("text-to-video", {"prompt": "a red ball"})
    seeds = {order_for(request, "fal", OUT)[0].payload["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_seed_that_is_set_stays() -> None:
    order, _ = order_for(parse("text-to-video", {"prompt": "x", "seed": 0}), "fal", OUT)
    assert order.payload["seed"] == order.about["request"]["seed"] == 0


def test_novita_gets_its_own_words_and_the_receipt_what_was_asked() -> None:
    request = parse("text-to-video", {"prompt": "x", "seed": 7, "aspect_ratio": "9:16", "resolution": "480p"})
    order, _ = order_for(request, "novita", OUT)
    assert (order.payload["width"], order.payload["height"]) == (480, 832)
    assert "resolution" not in order.payload
    assert order.about["request"]["aspect_ratio"] == "9:16"
    assert {"field", "asked", "used", "reason"} == set(order.about["adjustments"][0])
    assert order.price.usd is None


def test_what_the_runner_cannot_do_is_refused_with_all_its_reasons() -> None:
    request = parse("video-to-video", {"prompt": "x", "video_url": "https://a.test/a.mp4"})
    with pytest.raises(RequestError, match="the Novita runner supports image-to-video"):
        order_for(request, "novita", OUT)


def test_a_file_of_this_machine_is_named_by_its_hash_everywhere(tmp_path: Path) -> None:
    image = tmp_path / "private name.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    request = parse("image-to-video", {"prompt": "x", "image_url": str(image)})
    order, prepared = order_for(request, "fal", OUT)
    assert order.payload["image_url"] == order.about["request"]["image_url"]
    assert order.payload["image_url"].startswith("sha256:")
    assert list(prepared.files) == [order.payload["image_url"]]


def test_the_price_is_that_of_the_users_table() -> None:
    request = parse("text-to-video", {"prompt": "x"})
    table = {request.endpoint: {"unit": "video", "usd": 0.5, "as_of": "2026-11", "source": "my invoice"}}
    assert order_for(request, "fal", OUT, prices=table)[0].price.usd == 0.5


def test_an_order_without_files_is_sent_as_it_is() -> None:
    order, prepared = order_for(parse("text-to-video", {"prompt": "x"}), "novita", OUT)
    assert asyncio.run(uploading(prepared, Workshop("novita"))()) == order.payload
