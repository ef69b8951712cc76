"""From the user's folder to a file: what the README's demo without a key does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import KeyProblemError
from wan_duet.pipelines.remote.accounts import Accounts, account_at
from wan_duet.pipelines.remote.job_context import JobContext, PollTimes
from wan_duet.pipelines.remote.job_record import Order
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.keys import keep_key
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.request import WanRequest, parse

from .clients import FAL_KEY, NOVITA_KEY, bought
from .conftest import FastClock

KEYS = {"fal": FAL_KEY, "novita": NOVITA_KEY}
ROOT = Path(__file__).parents[2]
REQUESTS = {
    "fal": parse("text-to-video", {"prompt": "a red ball"}),
    "novita": parse("wan21-text-to-video", {"prompt": "a red ball", "width": 832, "height": 480, "seed": 7}),
}


@contextmanager
def server_by_hand(provider: str, key: str) -> Iterator[str]:
    """What it prints: the settings with which it is asked."""
    command = [sys.executable, "-m", f"tests.servers.{provider}", "--port", "0", "--key", key]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("provider", KEYS)
def test_a_server_started_by_hand_needs_only_its_settings_in_the_folder(
    provider: str, tmp_path: Path, journal: Journal, owner: OwnerLock, clock: FastClock
) -> None:
    async def run(request: WanRequest) -> bytes:
        account = account_at(provider, tmp_path, {})
        try:
            assert await account.accepts_key()
            context = JobContext(journal, owner, account, clock, PollTimes())
            job = await bought(request, account, context, tmp_path / "out" / "film.mp4", lambda event: None)
        finally:
            await account.close()
        assert job.file is not None
        return job.file.read_bytes()

    key = KEYS[provider]
    with server_by_hand(provider, key) as settings:
        (tmp_path / "providers.json").write_text(settings)
        assert set(json.loads(settings)) == {provider, "allow_loopback"}
        with pytest.raises(KeyProblemError):
            account_at(provider, tmp_path, {})
        keep_key(provider, key, tmp_path)
        assert asyncio.run(run(REQUESTS[provider]))[4:8] == b"ftyp"


def test_the_account_is_the_same_wherever_its_key_lies(tmp_path: Path) -> None:
    keep_key("fal", FAL_KEY, tmp_path)
    one, other = account_at("fal", tmp_path, {}), account_at("fal", None, {"FAL_KEY": FAL_KEY})
    assert one.account == other.account
    assert FAL_KEY not in repr(vars(one))


def test_jobs_with_one_key_share_an_account_and_a_changed_setting_is_seen_at_once(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path, asyncio.run, {})
    assert accounts.all() == []
    with pytest.raises(KeyProblemError):
        accounts.at("fal")
    keep_key("fal", FAL_KEY, tmp_path)
    first = accounts.at("fal")
    assert accounts.at("fal") is first
    assert accounts.all() == [first]
    keep_key("fal", "another:key", tmp_path)
    assert accounts.at("fal").account != first.account
    keep_key("fal", FAL_KEY, tmp_path)
    (tmp_path / "providers.json").write_text(json.dumps({"fal": "https://elsewhere.example"}))
    moved = accounts.at("fal")
    assert moved is not first
    assert moved.account == first.account


def test_a_job_is_not_asked_for_with_another_key(
    tmp_path: Path, journal: Journal, owner: OwnerLock, order: Callable[..., Order]
) -> None:
    keep_key("fal", FAL_KEY, tmp_path)
    accounts = Accounts(tmp_path, asyncio.run, {})
    wanted = {"reuse": True, "resubmit": False, "allow": lambda spent: None, "since": 0.0}
    job = journal.begin(order(), accounts.at("fal").account, owner, **wanted)
    assert accounts.of(job) is accounts.at("fal")
    keep_key("fal", "another:key", tmp_path)
    with pytest.raises(KeyProblemError, match="was started with another fal key"):
        accounts.of(job)
