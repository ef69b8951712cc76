"""Buys in processes of its own, one per line on stdin, so that a test may kill them.

A line is JSON: {"folder", "url", "prompt", "die_at", "resubmit"}. The answers are the id of the process and,
when it is over, how it ended. What was bought is written to `folder`/bought.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import anyio._backends._asyncio  # noqa: F401 - by the process that forks, so that no child has to
import httpcore  # noqa: F401

from wan_duet.pipelines.errors import RemoteError
from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.job_context import PollTimes
from wan_duet.pipelines.remote.keys import Key
from wan_duet.pipelines.remote.order import order_for, uploading
from wan_duet.pipelines.remote.remote_thread import RemoteThread
from wan_duet.pipelines.remote.retry import RetryTiming
from wan_duet.pipelines.remote.settings import Addresses
from wan_duet.pipelines.remote.spending_limits import SpendingLimits
from wan_duet.pipelines.request import parse

KEY = "5f0c1d2e-aaaa-4bbb-8ccc-123456789abc:c0ffee00112233445566778899aabbcc"
POLL_TIMES = {"fal": PollTimes(first=0.005, longest=0.005, look=0.005)}


async def soon(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.005))


def buy(folder: Path, url: str, prompt: str, die_at: str | None, resubmit: bool) -> None:
    """As ComfyUI would: go on with what is open, then run the graph. Ends by a kill at the point `die_at`."""
    passed: Counter[str] = Counter()

    def at(point: str) -> None:
        passed[point] += 1
        if die_at in (point, f"{point}:{passed[point]}"):
            os.kill(os.getpid(), signal.SIGKILL)

    fal = Fal(
        Key("fal", KEY),
        Addresses().at("fal", url, allow_loopback=True),
        folder,
        timing=RetryTiming(sleep=soon),
    )
    thread = RemoteThread(folder, poll_times=POLL_TIMES, at=at)
    thread.resume([fal])
    request = parse("image-to-video", {"prompt": prompt, "image_url": str(folder / "start.png"), "seed": 7})
    order, prepared = order_for(request, "fal", folder / "out" / "film.mp4")
    answer: dict[str, str | None] = {}
    try:
        job = thread.buy(
            order,
            fal,
            limits=SpendingLimits(),
            prepare=uploading(prepared, fal),
            on_event=lambda event: None,
            resubmit=resubmit,
        ).done.result(20)
        answer = {"file": job.file_path, "sha256": job.sha256, "state": job.state}
    except RemoteError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    (folder / "bought.json").write_text(json.dumps(answer))
    thread.close()


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        given = json.loads(line)
        child = os.fork()
        if not child:
            buy(Path(given["folder"]), given["url"], given["prompt"], given["die_at"], given["resubmit"])
            os._exit(0)
        say(child)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
