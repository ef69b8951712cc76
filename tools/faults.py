"""Make small faults where tests see least, and name the test that finds each of them.

    python tools/faults.py [--only WORD ...] [--sample N] [--list] [--quick] [--earlier IN] [--json OUT]

The checkout stays as it is: each fault is made in a temporary copy of it. Needs a system that can fork.

Where: in `pipelines/`, the statements that name a device, time, room or a further attempt (the words in
       fault_rules.py, looked up by the parts of an identifier, so that the unit in `total_s` means time),
       what stands under such an `if`, and an `if` under which something waits.
What:  a comparison is turned; a condition that is none gets a `not`; a number is multiplied and divided by
       12; a statement that only waits is removed; choices change their order; a class or word that an
       `except`, an `isinstance`, an `in` or an `any` names is dropped. BY_HAND adds what no rule makes.
       Of one kind a line has one fault, but each class or word is dropped.
Tests: those of its room that import the faulty file, and then the others of the room; of all rooms where
       it has no tests of its own. A test that hangs has found the fault; one that fails or hangs without it
       too has not, and is left out. --quick: no others where some import the file.
Again: --earlier names the file of another run. A fault that a test found then is not made again while neither
       the faulty file nor that test's file has changed; else that test is tried first.

harmless_faults.json lists faults that change nothing a test could see, with the reason. The exit code is 0
when tests find at least 95 % of the faults and every other one is listed there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fault_rules import Fault, all_faults, even_sample
from fault_workplace import ROOT, find, set_up

HARMLESS = Path(__file__).with_name("harmless_faults.json")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="faults whose line of the list has one of these"
    )
    parser.add_argument("--list", action="store_true", help="name the faults, and make none")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the verdicts into a file too")
    parser.add_argument("--earlier", type=Path, metavar="IN", help="the file of an earlier run")
    parser.add_argument(
        "--quick", action="store_true", help="no tests that do not import the faulty file, unless none does"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sample", type=int, metavar="N", help="only N, as many of each room and rule")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    options = parser.parse_args(argv)
    every = all_faults(ROOT)
    reasons = reasons_of(every)
    faults = [one for one in every if options.only is None or any(word in str(one) for word in options.only)]
    if options.sample is not None:
        faults = even_sample(faults, options.sample, options.seed)
    if options.list:
        print(*faults, f"{len(faults)} faults", sep="\n")
        return 0
    verdicts: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="wan-duet-faults-") as temporary:
        for verdict in judge(faults, Path(temporary), options):
            verdicts.append(verdict)
            if options.json is not None:
                whole = {
                    "as_of": date.today().isoformat(),
                    "rooms": by_room(verdicts, reasons),
                    "faults": verdicts,
                }
                options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return report(verdicts, reasons)


def reasons_of(faults: list[Fault]) -> dict[str, str]:
    """Why those in harmless_faults.json change nothing. Raises LookupError for one that is made no more."""
    reasons = {entry["fault"]: entry["why"] for entry in json.loads(HARMLESS.read_text(encoding="utf-8"))}
    if gone := reasons.keys() - {fault.text for fault in faults}:
        raise LookupError(f"{HARMLESS.name}: no such fault any more: {'; '.join(sorted(gone))}")
    return reasons


def judge(faults: list[Fault], temporary: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The verdicts as they come, first those that an earlier run has already."""
    earlier = {} if options.earlier is None else json.loads(options.earlier.read_text(encoding="utf-8"))
    known = {(one["file"], one["fault"]): one for one in earlier.get("faults", ()) if one["test"]}
    tasks: dict[Future[str | None], Fault] = {}
    begin = time.monotonic()
    with ProcessPoolExecutor(options.processes, get_context("spawn"), set_up, (temporary,)) as pool:
        for fault in faults:
            before = known.get((fault.file, fault.text), {})
            test = before.get("test")
            if test and before["of"] == fingerprint(fault.file, test):
                yield verdict_on(fault, test)
            else:
                tasks[pool.submit(find, fault, options.quick, test)] = fault
        for task in as_completed(tasks):
            fault, test = tasks[task], task.result()
            print(f"{time.monotonic() - begin:6.0f} s  {fault}\n          {test or 'SURVIVED'}", flush=True)
            yield verdict_on(fault, test)


def verdict_on(fault: Fault, test: str | None) -> dict[str, Any]:
    """of: what it holds for."""
    of = None if test is None else fingerprint(fault.file, test)
    return {
        "fault": fault.text,
        "file": fault.file,
        "line": fault.line,
        "what": fault.what,
        "test": test,
        "of": of,
    }


def fingerprint(file: str, test: str) -> str:
    """Of the faulty file without its fault, and of the file of the test."""
    both = (ROOT / name for name in (file, test.partition("::")[0]))
    contents = [one.read_bytes() if one.is_file() else b"" for one in both]
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]


def by_room(verdicts: list[dict[str, Any]], reasons: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """How many faults each room got, how many tests found, and how many change nothing."""
    rooms: dict[str, dict[str, int]] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict["file"]):
        room = rooms.setdefault(
            str(Path(verdict["file"]).parent), {"made": 0, "found": 0, "harmless": 0, "open": 0}
        )
        room["made"] += 1
        room["found" if verdict["test"] else "harmless" if verdict["fault"] in reasons else "open"] += 1
    return rooms


def report(verdicts: list[dict[str, Any]], reasons: Mapping[str, str]) -> int:
    for room, counts in by_room(verdicts, reasons).items():
        print(f"{room:24}", *(f"{number:4} {what}" for what, number in counts.items()))
    survived = [verdict for verdict in verdicts if verdict["test"] is None]
    found = len(verdicts) - len(survived)
    print(f"\n{found} of {len(verdicts)} faults found by a named test ({found / max(1, len(verdicts)):.1%})")
    for verdict in survived:
        why = reasons.get(verdict["fault"], "UNEXPLAINED")
        print(f"{verdict['file']}:{verdict['line']} {verdict['fault']}\n    {why}")
    explained = all(verdict["fault"] in reasons for verdict in survived)
    return int(not explained or found < 0.95 * len(verdicts))


if __name__ == "__main__":
    sys.exit(main())
