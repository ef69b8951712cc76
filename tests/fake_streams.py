"""A device with streams whose copies come as late as they may, for tests of order without one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


class FakeStream:
    """A queue that starts its copies as late as it may: when somebody waits for it.

    known: of every queue, how far this one has waited for it.
    """

    def __init__(self, name: str) -> None:
        self.name, self.given = name, 0
        self.known: dict[str, int] = {}
        self.copies: list[tuple[Tensor, Tensor]] = []
        self.lock = threading.Lock()  # one thread waits for copies while another adds some

    def work(self) -> int:
        """One more step; its number."""
        self.given += 1
        self.known[self.name] = self.given
        return self.given

    def record_event(self) -> FakeEvent:
        return FakeEvent(self, len(self.copies), {**self.known, self.name: self.given})

    def wait_event(self, event: FakeEvent) -> None:
        event.synchronize()
        for name, at in event.known.items():
            self.known[name] = max(self.known.get(name, 0), at)

    def wait_stream(self, stream: FakeStream) -> None:
        self.wait_event(stream.record_event())

    def synchronize(self) -> None:
        self.record_event().synchronize()


class FakeEvent:
    def __init__(self, stream: FakeStream, copies: int, known: dict[str, int]) -> None:
        self._pending = stream.copies[:copies]
        self._stream, self.known = stream, known

    def synchronize(self) -> None:
        with self._stream.lock:
            for copy in self._pending:
                if any(copy is other for other in self._stream.copies):
                    copy[0].copy_(copy[1])
                    self._stream.copies = [other for other in self._stream.copies if other is not copy]
        self._pending = []


class FakeStreams:
    """A device with streams, whose copies really come late."""

    def __init__(self) -> None:
        self.main, self.side = FakeStream("computing"), FakeStream("filling")
        self._here = threading.local()
        self.given_back = 0

    def current(self) -> FakeStream:
        found: FakeStream = getattr(self._here, "stream", self.main)
        return found

    def new_stream(self) -> FakeStream:
        return self.side

    @contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        self._here.stream = stream
        try:
            yield
        finally:
            self._here.stream = self.main

    def copy(self, target: Tensor, source: Tensor) -> None:
        with (stream := self.current()).lock:
            stream.copies.append((target, source))

    def release_pinned(self) -> None:
        self.given_back += 1
