"""What Run Fleet does: one request at a service, its file and receipt here, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fleet.batches import picture

from wan_duet.pipelines.errors import HostError, KeyProblemError, RequestError
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.service.fleet_address import FleetAddress, keep_address, read_address_of_fleet
from wan_duet.pipelines.service.service_client import FleetResult, run_at_service

from .painted import KIND, Served, running


class StoppedError(Exception):
    """What a host raises when its user stops."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    with running(tmp_path / "service", most_waiting=1) as found:
        yield found


def ask(
    service: Served,
    out: Path,
    prompt: str = "a red ball",
    check: Callable[[], None] = lambda: None,
    transport: httpx.BaseTransport | None = None,
    told: list[str] | None = None,
) -> FleetResult:
    key = service.http.headers["Authorization"].removeprefix("Bearer ")
    return run_at_service(
        parse(KIND, {"prompt": prompt, "seed": 1}),
        FleetAddress(service.url, key),
        lambda suffix: out / f"made{suffix}",
        tell=(told if told is not None else []).append,
        check=check,
        transport=transport,
    )


def test_the_file_and_its_receipt_land_here(service: Served, tmp_path: Path) -> None:
    result = ask(service, tmp_path)
    assert result.path == tmp_path / "made.png"
    assert result.path.read_bytes() == picture(parse(KIND, {"prompt": "a red ball", "seed": 1}))
    assert json.loads(result.path.with_suffix(".json").read_text()) == result.receipt
    assert (result.job["seed"], result.receipt["request"]["prompt"]) == (1, "a red ball")


def test_wrong_fields_are_told_by_name(service: Served, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        ask(service, tmp_path, "impossible")
    assert [problem.field for problem in caught.value.problems] == ["prompt"]


def test_a_job_that_fails_is_an_error(service: Served, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no such model"):
        ask(service, tmp_path, "fails")
    assert not list(tmp_path.glob("made*"))


def test_a_stop_cancels_the_job_there(service: Served, tmp_path: Path) -> None:
    def stop_when_it_runs() -> None:
        if service.service.lanes[0].job is not None:
            raise StoppedError

    with pytest.raises(StoppedError):
        ask(service, tmp_path, "slow", stop_when_it_runs)
    (job,) = service.queue.jobs("client-0", 10)
    assert job.state == "cancelled"


class Flaky(httpx.HTTPTransport):
    """Loses answers: the service has done what it was asked, and the client does not know."""

    def __init__(self, *lost: str) -> None:
        super().__init__()
        self.lost = list(lost)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if self.lost and request.method == self.lost[0]:
            del self.lost[0]
            answer.close()
            raise httpx.ReadError("the connection was lost")
        return answer


def test_an_answer_that_is_lost_doubles_nothing(service: Served, tmp_path: Path) -> None:
    told: list[str] = []
    ask(service, tmp_path, transport=Flaky("POST", "GET"), told=told)
    assert service.worker.asked == ["a red ball"]
    assert len(service.queue.jobs("client-0", 10)) == 1
    assert any("connection was lost" in line for line in told)


def test_a_service_without_our_key_says_so(service: Served, tmp_path: Path) -> None:
    service.http.headers["Authorization"] = "Bearer wd-wrong"
    with pytest.raises(HostError, match="valid key"):
        ask(service, tmp_path)


def test_the_address_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    keep_address(tmp_path, "https://gpu.example.com/", "wd-secret\n")
    found = read_address_of_fleet(tmp_path)
    assert (found.address, found.key) == ("https://gpu.example.com", "wd-secret")
    assert "wd-secret" not in repr(found)
    (tmp_path / "fleet.json").chmod(0o644)
    with pytest.raises(KeyProblemError, match="chmod 600"):
        read_address_of_fleet(tmp_path)


@pytest.mark.parametrize(
    "address", ["http://10.0.0.2:8472", "ftp://a", "gpu", "https://user@host", "https://h?a=b"]
)
def test_an_address_that_would_show_the_key_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(RequestError, match="address"):
        keep_address(tmp_path, address, "wd-secret")


def test_a_network_of_ones_own_is_allowed_by_name(tmp_path: Path) -> None:
    keep_address(tmp_path, "http://10.0.0.2:8472", "wd-secret", allow_http=True)
    assert read_address_of_fleet(tmp_path).address == "http://10.0.0.2:8472"
    with pytest.raises(KeyProblemError, match="clients connect"):
        read_address_of_fleet(tmp_path / "nothing")
