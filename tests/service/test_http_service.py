"""A client posts requests over HTTP, and gets each result once, with its receipt."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from fleet.batches import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan.families import default_family
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.service.http_routes import ROUTES
from wan_duet.pipelines.service.posted_request import openai_job, posted_job

from .painted import KIND, Served, served

Story = Callable[[Served], Awaitable[None]]


def run(tmp_path: Path, story: Story, **options: Any) -> None:
    async def told() -> None:
        async with served(tmp_path, **options) as service:
            await story(service)

    asyncio.run(told())


def test_a_posted_request_becomes_a_file_and_a_receipt(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        status, job = await service.post()
        assert (status, job["kind"], job["seed"]) == (202, KIND, 1)
        done = await service.until(job["id"], "done")
        wanted = picture(parse(KIND, {"prompt": "a red ball", "seed": 1}))
        assert await service.call("GET", done["result"]["url"]) == (200, wanted)
        _, receipt = await service.call("GET", done["result"]["receipt_url"])
        assert (receipt["request"]["prompt"], done["request"]["prompt"]) == ("a red ball", "a red ball")
        assert done["result"]["size_bytes"] == len(wanted)

    run(tmp_path, story)


def test_every_wrong_field_is_answered_by_its_name(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        status, said = await service.post(num_frames="many", colour="red")
        assert status == 400
        assert {problem["field"] for problem in said["error"]["problems"]} == {"num_frames", "colour"}
        status, said = await service.post("impossible")
        assert (status, said["error"]["param"]) == (400, "prompt")
        status, said = await service.call(
            "POST", "/v1/jobs", data=b"{", headers={"Content-Type": "application/json"}
        )
        assert (status, said["error"]["param"]) == (400, "request")
        assert (await service.call("POST", "/v1/jobs", data=b"a"))[0] == 415
        assert service.queue.waiting() == 0

    run(tmp_path, story, lanes=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_url", "/etc/passwd"),
        ("image_url", "https://example.com/a.png"),
        ("loras", [{"path": "/etc/passwd"}]),
        ("loras", [{"path": "../keys.json"}]),
        ("loras", [{"path": "C:\\secret.safetensors"}]),
        ("loras", [{"path": "https://example.com/a.safetensors"}]),
        ("local", {"count": 2}),
    ],
)
def test_a_client_names_no_file_of_the_service(field: str, value: Any) -> None:
    kind = "image-to-video-lora" if field == "image_url" else "text-to-video-lora"
    with pytest.raises(RequestError) as caught:
        posted_job({"kind": kind, "prompt": "a", field: value}, KIND)
    assert caught.value.problems[0].field.startswith(field)


def test_an_image_travels_as_a_data_uri_and_is_not_kept(tmp_path: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(b"secret picture").decode()

    async def story(service: Served) -> None:
        _, job = await service.post(kind="image-to-video", image_url=uri)
        assert "base64" not in json.dumps(job)
        await service.until(job["id"], "done")
        row = service.queue.find("client-0", job["id"])
        assert row.request_fields()["image_url"].startswith("sha256:")

    run(tmp_path, story)


def test_a_key_of_an_earlier_request_is_that_request(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        keyed: dict[str, Any] = {"headers": {"Idempotency-Key": "one"}}
        body = {"prompt": "a"}
        first = await asyncio.gather(
            *(service.call("POST", "/v1/jobs", json=body, **keyed) for _ in range(5))
        )
        assert len({job["id"] for _, job in first}) == 1
        assert sorted(status for status, _ in first) == [200, 200, 200, 200, 202]
        job = await service.until(first[0][1]["id"], "done")
        assert await service.call("POST", "/v1/jobs", json=body, **keyed) == (200, job)
        assert (await service.call("POST", "/v1/jobs", json={"prompt": "b"}, **keyed))[0] == 422
        assert service.worker.asked == ["a"]

    run(tmp_path, story)


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        accepted = [(await service.post())[0] for _ in range(3)]
        async with service.http.post(f"{service.url}/v1/jobs", json={"prompt": "a"}) as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json())["error"]["code"] == "queue_full"
        assert (accepted, service.queue.waiting()) == ([202] * 3, 3)

    run(tmp_path, story, lanes=0, most_waiting=3)


def test_a_client_sends_only_so_many_jobs_a_minute(tmp_path: Path) -> None:
    seconds = [0.0]

    async def story(service: Served) -> None:
        assert [(await service.post())[0] for _ in range(3)] == [202, 202, 429]
        seconds[0] = 59.9
        assert (await service.post())[0] == 429
        seconds[0] = 60.0
        assert (await service.post())[0] == 202

    run(tmp_path, story, lanes=0, per_minute=2, clock=lambda: seconds[0])


def test_a_client_spends_only_so_much_a_day(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        status, job = await service.post()
        taken = service.queue.take("local")
        assert taken is not None
        assert (await service.post())[1]["error"]["code"] == "price_unknown"
        service.queue.finish(service.queue.publish(taken, 1800.0, file="a.png", size_bytes=1))
        assert (await service.call("GET", f"/v1/jobs/{job['id']}"))[1]["usd"] == pytest.approx(1.0)
        assert (await service.post())[0] == 202  # 1 spent, 1 expected
        status, said = await service.post()  # 1 spent, 2 expected
        assert (status, said["error"]["code"]) == (402, "spend_limit_exceeded")

    run(tmp_path, story, lanes=0, usd_per_hour=2.0, usd_per_day=2.5)


def test_only_a_known_key_gets_an_answer_and_only_of_its_own_jobs(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        _, job = await service.post()
        for key in ("", "Bearer", "Bearer wd-wrong", "Basic abc"):
            for route in ROUTES:
                path = route.path.replace("{job_id}", job["id"])
                status, _ = await service.call(route.method, path, headers={"Authorization": key})
                assert (status == 401) != route.is_open, route
        async with served(tmp_path / "other", lanes=0) as stranger:
            key = stranger.http.headers["Authorization"]
            assert (await service.call("GET", "/v1/jobs", headers={"Authorization": key}))[0] == 401

    run(tmp_path, story)


def test_jobs_of_another_client_are_not_there(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        _, job = await service.post()
        async with served(tmp_path, lanes=0) as other:  # the second client of the same queue
            assert await other.call("GET", f"/v1/jobs/{job['id']}") == (
                404,
                {
                    "error": {
                        "message": "there is no such job",
                        "type": "not_found",
                        "param": None,
                        "code": "not_found",
                        "problems": [],
                    }
                },
            )
            assert (await other.call("GET", "/v1/jobs"))[1]["data"] == []

    run(tmp_path, story, lanes=0)


def test_a_running_job_is_cancelled_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        _, slow = await service.post("slow")
        _, next_one = await service.post("b")
        await service.until(slow["id"], "running")
        status, said = await service.call("POST", f"/v1/jobs/{slow['id']}/cancel")
        assert (status, said["state"]) == (200, "cancelled")
        await service.until(next_one["id"], "done")
        assert (await service.until(slow["id"], "cancelled"))["seconds"] > 0
        assert (await service.call("POST", f"/v1/jobs/{slow['id']}/cancel"))[0] == 409
        assert (await service.call("GET", f"/v1/jobs/{slow['id']}/result"))[0] == 409
        assert not list((service.folder / ".unfinished").glob("*"))

    run(tmp_path, story)


def test_a_deleted_job_is_gone_with_its_files(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        _, job = await service.post()
        await service.until(job["id"], "done")
        assert len(list(service.folder.glob("video_*"))) == 2
        assert (await service.call("DELETE", f"/v1/jobs/{job['id']}"))[0] == 200
        assert list(service.folder.glob("video_*")) == []
        assert (await service.call("GET", f"/v1/jobs/{job['id']}"))[0] == 404

    run(tmp_path, story)


def test_a_job_that_fails_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        _, bad = await service.post("fails")
        _, good = await service.post()
        assert "no such model" in (await service.until(bad["id"], "failed"))["error"]
        await service.until(good["id"], "done")

    run(tmp_path, story)


def test_clients_of_openai_post_and_fetch_a_video(tmp_path: Path) -> None:
    async def story(service: Served) -> None:
        form = FormData({"model": "toy", "prompt": "a cat", "seconds": "1", "size": "112x64"})
        form.add_field("input_reference", b"\x89PNG", filename="a.png", content_type="image/png")
        status, video = await service.call("POST", "/v1/videos", data=form)
        assert (status, video["object"], video["seconds"], video["size"]) == (200, "video", "1", "112x64")
        await service.until(video["id"], "done")
        status, video = await service.call("GET", f"/v1/videos/{video['id']}")
        assert (video["status"], video["progress"]) == ("completed", 100)
        assert (await service.call("GET", f"/v1/videos/{video['id']}/content"))[0] == 200
        assert (await service.call("GET", "/v1/videos"))[1]["data"] == [video]
        assert (await service.call("DELETE", f"/v1/videos/{video['id']}"))[1]["deleted"] is True
        assert (await service.call("GET", f"/v1/videos/{video['id']}"))[0] == 404

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"model": "sora-2"}, "model"),
        ({"seconds": "0"}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"size": "big"}, "size"),
        ({"input_reference": {"file_id": "a"}}, "input_reference"),
        ({"input_reference": "https://example.com/a.png"}, "image_url"),
        ({"style": "old"}, "style"),
    ],
)
def test_a_wrong_form_is_answered_by_its_field(form: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        openai_job({"prompt": "a", **form}, "toy", default_family(KIND))
    assert [problem.field for problem in caught.value.problems] == [field]


@given(seconds=st.integers(1, 600))
@settings(max_examples=20)
def test_seconds_become_frames_that_the_vae_makes(seconds: int) -> None:
    family = default_family(KIND)
    request = openai_job({"prompt": "a", "seconds": str(seconds)}, "toy", family).request
    frames = request.document()["num_frames"]
    assert frames % 4 == 1
    assert abs(frames / family.default_fps - seconds) <= 2.5 / family.default_fps
