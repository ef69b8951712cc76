"""A check answers from what it is given: no file, no network, no clock, no chance."""

from __future__ import annotations

import json
import subprocess
import sys

# In a process of its own: an audit hook cannot be taken away again. What is loaded once is loaded before.
CHECKS = """
import json, sys
from wan_duet.pipelines.plan import FAMILIES
from wan_duet.pipelines.request import KINDS, MediaFacts, check_all, field_table, parse

SIZES = {"width": 832, "height": 480, "seed": 1, "video_urls": ["a"]}
requests = [
    parse(kind, {row.name: SIZES.get(row.name, "a") for row in field_table(kind) if row.required})
    for kind in KINDS
]
media = MediaFacts(size=(640, 480), frames=33, seconds=2.5, sha256={"image_url": "00"})

def answers():
    return [
        report
        for request in requests
        for family in (None, *FAMILIES.values())
        for report in check_all(request, family=family, media=media)
    ]

before, events, calls = answers(), [], []
CHANCE_AND_CLOCK = ("time", "_datetime", "_random", "random", "secrets", "_socket")

def watch(event, arguments):
    if watching:
        events.append(event)

def called(frame, kind, function):
    if kind == "c_call" and (
        getattr(function, "__module__", None) in CHANCE_AND_CLOCK or function.__name__ == "urandom"
    ):
        calls.append(function.__name__)

watching = False
sys.addaudithook(watch)
sys.setprofile(called)
watching = True
after = answers()
watching = False
sys.setprofile(None)
said = {"same": before == after, "events": sorted(set(events)), "calls": calls, "count": len(after)}
print(json.dumps(said))
"""


def test_check_is_pure() -> None:
    done = subprocess.run([sys.executable, "-c", CHECKS], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert seen["same"]
    assert seen["count"] > 500
    # Reading an attribute through a descriptor is an audit event too; nothing else may be.
    assert set(seen["events"]) <= {"object.__getattr__"}
    assert seen["calls"] == []
