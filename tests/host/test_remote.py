"""Remote runs on the host: against loopback servers, bought once, stopped as the user says, never lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient, WorkflowProgress, WorkflowResult
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.remote.keys import forget_key, keep_key
from wan_duet.pipelines.video.probe import probe

from ..servers.fal import FalServer
from ..servers.novita import NovitaServer
from ..servers.results import clip
from .test_progress import TEXT, binary_messages

WORKFLOWS = Path(__file__).parents[2] / "workflows" / "api"
KEYS = {
    "fal": "5f0c1d2e-aaaa-4bbb-8ccc-123456789abc:c0ffee00112233445566778899aabbcc",
    "novita": "sk_Zm9yLXRlc3RzLW9ubHktMDEyMzQ1Njc4OQ",
}
T2V, I2V = "WanDuetTextToVideo", "WanDuetImageToVideo"
RUNNERS = {"fal": "WanDuetRunFal", "novita": "WanDuetRunNovita"}
NAMES = {"fal": "fal", "novita": "Novita"}
STAR = "Same request, here or there"
RUNNER = {"reuse": True, "resubmit": False, "max_price_usd": 0, "return_images": False}
STOP_S = 5.0  # what the user may have to wait for, on a machine that is busy


@dataclass
class Providers:
    """Both, on a loop of their own, and the settings with which they are asked."""

    fal: FalServer
    novita: NovitaServer
    loop: asyncio.AbstractEventLoop

    def write_settings(self, user: Path) -> None:
        folder = user / "__wan_duet"
        for provider, key in KEYS.items():
            keep_key(provider, key, folder)
        addresses = {"fal": self.fal.url, "novita": self.novita.url, "allow_loopback": True}
        (folder / "providers.json").write_text(json.dumps(addresses), encoding="utf-8")

    def jobs(self) -> dict[str, int]:
        return {"fal": len(self.fal.jobs), "novita": len(self.novita.jobs)}

    def release(self) -> None:
        """End what stalls."""
        self.loop.call_soon_threadsafe(self.fal.script.released.set)


def forget_settings(user: Path) -> None:
    folder = user / "__wan_duet"
    for provider in KEYS:
        forget_key(provider, folder)
    (folder / "providers.json").unlink()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def started(fal_server: FalServer, loop: asyncio.AbstractEventLoop) -> Iterator[Providers]:
    """Run a server of fal and one of Novita, whose jobs are finished at the first look."""

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    made = Providers(fal_server, NovitaServer(key=KEYS["novita"], queue_looks=0, run_looks=0), loop)
    for server in (made.fal, made.novita):
        wait(server.start())
    yield made
    for server in (made.fal, made.novita):
        wait(server.stop())


@pytest.fixture
def servers(loop: asyncio.AbstractEventLoop) -> Iterator[Providers]:
    with started(FalServer(key=KEYS["fal"], queue_looks=0, run_looks=0), loop) as made:
        yield made


@pytest.fixture
def providers(servers: Providers, host: HeadlessComfyUI) -> Iterator[Providers]:
    servers.write_settings(host.user)
    yield servers
    forget_settings(host.user)  # other files' tests share this ComfyUI


def workflow(name: str, seed: int, **changed: object) -> dict[str, Any]:
    """A shipped workflow. Each test has a seed of its own, as an equal request is the same job."""
    graph: dict[str, Any] = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph.values():
        node["inputs"].update(
            {key: value for key, value in {"seed": seed, **changed}.items() if key in node["inputs"]}
        )
    return graph


def id_of(graph: dict[str, Any], kind: str) -> str:
    (found,) = (name for name, node in graph.items() if node["class_type"] == kind)
    return found


def node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def show(graph: dict[str, Any], kind: str, slot: int) -> str:
    """Add a node that shows an output of the node of this class; returns its id."""
    name = f"shown {len(graph)}"
    graph[name] = node("PreviewAny", source=[id_of(graph, kind), slot])
    return name


def text_of(job: WorkflowResult, node: str) -> str:
    return str(job.outputs[node]["text"][0])


def request(kind: str, seed: int, host: HeadlessComfyUI, **changed: object) -> dict[str, Any]:
    """A graph of a new request node."""
    (info,) = host.client.get(f"/object_info/{kind}").values()
    required = info["input"]["required"].items()
    settings = {name: item[1]["default"] for name, item in required if "default" in item[1]}
    return {"request": node(kind, **{**settings, "prompt": "a ball", "seed": seed, **changed})}


def run_on(graph: dict[str, Any], kind: str, slot: int = 5, **changed: object) -> dict[str, Any]:
    """With a runner of this class, one of whose outputs is shown."""
    inputs = {**RUNNER, "request": ["request", 0], "filename_prefix": "video/remote", **changed}
    graph["run"] = node(kind, **inputs)
    show(graph, kind, slot)
    return graph


def until(happened: Callable[[], object], timeout_s: float = 15.0) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, "has not happened"
        time.sleep(0.02)


def saved_in(folder: Path) -> set[Path]:
    """What was saved with its receipt: a place is reserved by an empty file."""
    return {file for file in folder.rglob("*.mp4") if file.with_suffix(".json").exists()}


@pytest.mark.parametrize("provider", RUNNERS)
def test_a_remote_workflow_saves_its_video_with_a_receipt(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient, provider: str
) -> None:
    graph = workflow(f"Text to Video on {NAMES[provider]}", seed=1)
    texts = [show(graph, RUNNERS[provider], slot) for slot in (2, 3, 4)]
    done = client.run(graph)
    seed, prompt, receipt = (text_of(done, node) for node in texts)
    asked = graph[id_of(graph, "WanDuetTextToVideo")]["inputs"]
    assert (seed, prompt) == ("1", asked["prompt"])
    (file,) = (file for file in done.files if file.node_id == id_of(graph, RUNNERS[provider]))
    assert file.folder == "output"
    saved = host.output / file.subfolder / file.name
    assert probe(saved).frames == 8
    beside = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert beside.pop("file")["size_bytes"] == saved.stat().st_size
    assert beside == json.loads(receipt)
    server = providers.fal if provider == "fal" else providers.novita
    assert list(server.jobs) == [json.loads(receipt)["job"]["request_id"]]
    assert providers.jobs()[provider] == sum(providers.jobs().values())


@pytest.mark.parametrize(
    ("remote", "fal", "chosen"), [(False, True, "local"), (True, True, "fal"), (True, False, "novita")]
)
def test_only_the_chosen_branch_submits(
    providers: Providers, client: ComfyClient, remote: bool, fal: bool, chosen: str
) -> None:
    graph = workflow(STAR, seed=2, num_inference_steps=2, interpolator_model="none")
    switches = {"At a provider": remote, "fal, not Novita": fal, "At your fleet": False}
    for item in graph.values():
        if item["class_type"] == "ComfySwitchNode":
            item["inputs"]["switch"] = switches[item["_meta"]["title"]]
    ran: set[str] = set()
    done = client.run(graph, on_progress=lambda progress: ran.add(graph[progress.node_id]["class_type"]))
    assert id_of(graph, "SaveVideo") in done.outputs
    runners = {"local": "WanDuetRunLocal", **RUNNERS}
    assert ran & set(runners.values()) == {runners[chosen]}
    assert providers.jobs() == {name: int(name == chosen) for name in RUNNERS}


def test_a_node_that_comfyui_runs_again_costs_nothing(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    graph = run_on(request(T2V, 3, host), "WanDuetRunFal")
    first = client.run(graph)
    ran: set[str] = set()

    def again() -> bool:
        client.post("/free", {"free_memory": True})  # ComfyUI forgets every output, a little later
        done = client.run(graph, on_progress=lambda progress: ran.add(progress.node_id))
        assert done.outputs["run"] == first.outputs["run"]
        return "run" in ran

    until(again)
    job = node("WanDuetJob", job_id=text_of(first, "shown 2")[:8], return_images=True)
    attached = {"job": job, "images": node("PreviewImage", images=["job", 1])}
    assert len(client.run(attached).outputs["images"]["images"]) == 8
    assert providers.jobs() == {"fal": 1, "novita": 0}
    graph["run"]["inputs"]["reuse"] = False
    client.run(graph)
    assert providers.jobs() == {"fal": 2, "novita": 0}
    graph["images"] = node("PreviewImage", images=["run", 1])
    assert "images" not in client.run(graph).outputs
    assert providers.jobs() == {"fal": 2, "novita": 0}  # not even to say that it has no images


def test_frames_of_a_job_that_are_connected_but_not_returned_are_an_error(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    graph = run_on(request(T2V, 31, host), "WanDuetRunFal")
    job_id = text_of(client.run(graph), "shown 2")
    shown = {"shown": node("PreviewAny", source=["job", 5])}
    attached = {"job": node("WanDuetJob", job_id=job_id, return_images=False), **shown}
    frames = {"frames": node("PreviewImage", images=["job", 1])}
    refused = "return_images: off, but images is connected to PreviewImage"
    with pytest.raises(HostError, match=refused):
        client.run(attached | frames)
    client.run(attached)
    with pytest.raises(HostError, match=refused):  # of a cached job too
        client.run(attached | frames)
    graph["frames"] = node("PreviewImage", images=["run", 1])
    with pytest.raises(HostError, match=refused):
        client.run(graph)
    assert providers.jobs() == {"fal": 1, "novita": 0}


def test_a_picture_comes_out_of_images_and_blocks_video(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    graph = run_on(request("WanDuetTextToImage", 4, host), "WanDuetRunFal")
    graph["image"] = node("PreviewImage", images=["run", 1])
    graph["video"] = node("SaveVideo", video=["run", 0], filename_prefix="no", format="auto", codec="auto")
    done = client.run(graph)
    assert len(done.outputs["image"]["images"]) == 1
    assert "video" not in done.outputs
    assert done.outputs["run"]["images"][0]["filename"].endswith(".png")


def sent(providers: Providers, client: ComfyClient, graph: dict[str, Any]) -> dict[str, Any]:
    """What fal gets for a graph with a request, with the bytes that it can read in place of addresses."""
    client.run(run_on(graph, "WanDuetRunFal"))
    (*_, job) = providers.fal.jobs.values()
    assert providers.fal.cdn.leaks == []
    stored = {f"{providers.fal.url}/cdn/files/{name}": file for name, file in providers.fal.cdn.files.items()}
    values = {**job.body, "lora": job.body.get("loras", [{"path": None}])[0]["path"]}
    return {name: stored[value].data if str(value) in stored else value for name, value in values.items()}


def test_media_of_sockets_are_where_the_provider_reads_them(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    (host.input / "clip.mp4").write_bytes(clip())
    media = {
        "image": node("EmptyImage", width=64, height=64, batch_size=2, color=255),
        "one": node("ImageFromBatch", image=["image", 0], batch_index=0, length=1),
        "audio": node("EmptyAudio", duration=0.1, sample_rate=8000, channels=1),
        "made": node("CreateVideo", images=["image", 0], fps=16.0),
        "loaded": node("LoadVideo", file="clip.mp4"),
    }
    graph = request("WanDuetSpeechToVideo", 5, host, image=["one", 0], audio=["audio", 0])
    spoken = sent(providers, client, {**graph, **media})
    assert spoken["image_url"].startswith("data:image/png;base64,")  # small enough to go along
    assert (spoken["audio_url"][:4], spoken["audio_url"][8:12]) == (b"RIFF", b"WAVE")
    for source, looks in (
        ("made", lambda data: data[4:8] == b"ftyp"),
        ("loaded", lambda data: data == clip()),
    ):
        graph = request("WanDuetVideoToVideo", 5, host, video=[source, 0])
        assert looks(sent(providers, client, {**graph, **media})["video_url"])


def write_lora(file: Path, rank: int) -> None:
    """Write a LoRA of zeros for one layer of the 14B network, as a sparse file."""
    layer, width, half = "diffusion_model.blocks.0.self_attn.q", 5120, 2 * rank * 5120
    header = {
        f"{layer}.lora_A.weight": {"dtype": "F16", "shape": [rank, width], "data_offsets": [0, half]},
        f"{layer}.lora_B.weight": {"dtype": "F16", "shape": [width, rank], "data_offsets": [half, 2 * half]},
    }
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + 2 * half)


def test_files_of_the_input_folder_and_of_models_loras_may_be_named(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient, models: Path
) -> None:
    lora = models / "loras" / "mine.safetensors"
    write_lora(lora, rank=4)
    (host.input / "start.mp4").write_bytes(clip())
    graph = request("WanDuetVideoToVideo", 16, host, video_url="start.mp4")
    assert sent(providers, client, graph)["video_url"] == clip()
    graph = {"plain": request(T2V, 16, host)["request"]}
    inputs = {"file": lora.name, "path": "", "weight_name": "", "scale": 1.0, "transformer": "high"}
    graph["request"] = node("WanDuetRequestLora", request=["plain", 0], **inputs)
    try:
        assert sent(providers, client, graph)["lora"] == lora.read_bytes()
    finally:
        lora.unlink()


KEYS_FILE = "../user/__wan_duet/keys.json"


@pytest.mark.parametrize(
    ("kind", "provider", "asked", "settings", "says"),
    [
        (I2V, "fal", {"image_url": "/etc/hostname"}, {}, "image_url: .*input folder"),
        (I2V, "fal", {"image_url": KEYS_FILE}, {}, "image_url: .*input folder"),
        (I2V, "fal", {"image_url": f"{KEYS_FILE} [output]"}, {}, "image_url: .*input folder"),
        (T2V, "novita", {"guidance_scale_2": 7}, {}, "guidance_scale_2: .*Novita"),
        (T2V, "fal", {}, {"max_price_usd": 0.01}, r"limit is \$0.01 per run"),
        (T2V, "novita", {}, {"max_price_usd": 5}, "price is unknown"),
        (T2V, "fal", {}, {"filename_prefix": "../evil"}, "outside the output folder"),
        (T2V, "fal", {}, {"filename_prefix": "%width%"}, "filename_prefix: %width%"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name_before_anything_is_sent(
    providers: Providers,
    host: HeadlessComfyUI,
    client: ComfyClient,
    kind: str,
    provider: str,
    asked: dict[str, object],
    settings: dict[str, object],
    says: str,
) -> None:
    with pytest.raises(HostError, match=says):
        client.run(run_on(request(kind, 6, host, **asked), RUNNERS[provider], **settings))
    assert providers.fal.seen == providers.novita.seen == []


def test_prices_and_limits_of_the_user_are_those_of_check_and_run(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    price = {"unit": "video", "usd": 7, "as_of": "2026-11", "source": "my invoice"}
    spending = {"per_run_usd": 5, "prices": {"fal-ai/wan/v2.2-a14b/text-to-video": price}}
    file = host.user / "__wan_duet" / "spending.json"
    file.write_text(json.dumps(spending), encoding="utf-8")
    graph = request(T2V, 18, host)
    try:
        check = {**graph, "check": node("WanDuetCheck", request=["request", 0], runner="fal")}
        said = text_of(client.run(check), "check")
        assert "price: about $7.00" in said
        assert "my invoice" in said
        with pytest.raises(HostError, match=r"may cost \$7.00, and the limit is \$5.00 per run"):
            client.run(run_on(graph, "WanDuetRunFal", max_price_usd=6))
    finally:
        file.unlink()
    assert providers.fal.seen == []


def test_the_node_tells_where_its_job_is(providers: Providers, host: HeadlessComfyUI) -> None:
    providers.fal.queue_looks, providers.fal.run_looks = 1, 1
    graph = run_on(request(T2V, 7, host), "WanDuetRunFal")
    shown = [
        message.decode("utf-8", "replace") for message in asyncio.run(binary_messages(host.url, graph, TEXT))
    ]
    assert any("queued #" in text and "about $" in text for text in shown)
    assert any("running" in text and "step " in text for text in shown)
    assert all("video seconds counted at 16 fps" in text for text in shown)
    assert "done" in shown[-1]
    assert "charged" in shown[-1]


@dataclass
class Stopped:
    """A run on which Stop is pressed once `reached`."""

    job: WorkflowResult
    seconds: float


def stop_when(
    client: ComfyClient,
    host: HeadlessComfyUI,
    graph: dict[str, Any],
    reached: Callable[[], object],
    on_progress: Callable[[WorkflowProgress], None] | None = None,
) -> Stopped:
    pressed: Future[float] = Future()

    def press() -> None:
        until(reached)
        with ComfyClient(host.url) as other:
            begin = time.monotonic()
            other.interrupt()
        pressed.set_result(begin)

    threading.Thread(target=press, daemon=True).start()
    job = client.follow(graph, on_progress=on_progress, timeout_s=30)
    return Stopped(job, time.monotonic() - pressed.result(timeout=20))


@pytest.mark.parametrize("state", ["queued", "running"])
def test_stop_cancels_the_job_at_the_provider_and_the_node_returns_at_once(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient, state: str
) -> None:
    server = providers.fal
    server.queue_looks, server.run_looks = (10**6, 0) if state == "queued" else (0, 10**6)
    word = {"queued": "IN_QUEUE", "running": "IN_PROGRESS"}[state]
    graph = run_on(request(T2V, 8, host), "WanDuetRunFal", filename_prefix=f"stop/{state}")
    graph["request"]["inputs"]["prompt"] = state
    stopped = stop_when(
        client, host, graph, lambda: any(job.looks and job.state == word for job in server.jobs.values())
    )
    assert stopped.job.status == "interrupted"
    assert stopped.seconds < STOP_S
    until(lambda: server.summary() == {"jobs": 1, "cancelled": 1})
    assert not list((host.output / "stop").rglob(f"{state}*"))


def test_stop_ends_the_reading_of_a_large_file(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient, models: Path
) -> None:
    lora = models / "loras" / "large.safetensors"
    write_lora(lora, rank=3_000_000)  # of zeros: it takes no place, and minutes to read
    graph = {"plain": request(T2V, 19, host)["request"]}
    inputs = {"file": lora.name, "path": "", "weight_name": "", "scale": 1.0, "transformer": "high"}
    graph["request"] = node("WanDuetRequestLora", request=["plain", 0], **inputs)
    begun: set[str] = set()
    try:
        stopped = stop_when(
            client,
            host,
            run_on(graph, "WanDuetRunFal"),
            lambda: "run" in begun,
            lambda progress: begun.add(progress.node_id),
        )
    finally:
        lora.unlink()
    assert stopped.job.status == "interrupted"
    assert stopped.seconds < STOP_S
    assert providers.fal.seen == []


def test_stop_reaches_all_jobs_of_a_graph(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    providers.fal.queue_looks = 10**6
    graph = run_on(request(T2V, 14, host), "WanDuetRunFal")
    for name, node in run_on(request(T2V, 15, host), "WanDuetRunFal").items():
        inputs = {
            key: ["second", *link[1:]] if link == ["request", 0] else link
            for key, link in node["inputs"].items()
        }
        graph["second" if name == "request" else f"second {name}"] = {**node, "inputs": inputs}
    graph["second shown 2"]["inputs"]["source"] = ["second run", 5]
    stopped = stop_when(client, host, graph, lambda: len(providers.fal.jobs) == 2)
    assert stopped.job.status == "interrupted"
    assert stopped.seconds < STOP_S
    until(lambda: providers.fal.summary() == {"jobs": 2, "cancelled": 2})


def test_stop_during_the_download_frees_the_node_and_keeps_what_is_paid_for(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    server, folder = providers.fal, host.output / "paid"
    server.script.plan("download", "stall")
    graph = run_on(request(T2V, 9, host), "WanDuetRunFal", filename_prefix="paid/for")
    stopped = stop_when(client, host, graph, lambda: server.script.calls["download"])
    assert stopped.job.status == "interrupted"
    assert stopped.seconds < STOP_S
    providers.release()
    until(lambda: saved_in(folder))
    assert client.run(graph).status == "success"
    assert server.summary() == {"jobs": 1, "cancelled": 0}


def test_stop_where_nothing_can_be_cancelled_frees_the_node_and_the_video_still_arrives(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    providers.novita.run_looks = 1
    graph = run_on(request(T2V, 17, host), "WanDuetRunNovita", filename_prefix="arrives/later")
    bars: set[float] = set()
    stopped = stop_when(client, host, graph, lambda: 100 in bars, lambda progress: bars.add(progress.total))
    assert stopped.job.status == "interrupted"
    assert stopped.seconds < STOP_S
    until(lambda: saved_in(host.output / "arrives"))
    client.run(graph)
    assert providers.jobs() == {"fal": 0, "novita": 1}


def test_novita_is_asked_for_the_model_that_the_node_names(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    graph = run_on(request(T2V, 20, host), "WanDuetRunNovita", slot=3, novita_model="Wan 2.2")
    assert text_of(client.run(graph), "shown 2") == "a ball"
    assert [task.path for task in providers.novita.jobs.values()] == ["/v3/async/wan-2.2-t2v"]


def test_after_stop_the_next_run_of_the_same_request_is_a_new_job(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    server = providers.fal
    server.queue_looks = 10**6
    graph = run_on(request(T2V, 10, host), "WanDuetRunFal")
    stop_when(client, host, graph, lambda: server.jobs)
    server.queue_looks = 0
    assert client.run(graph).status == "success"
    until(lambda: server.summary() == {"jobs": 2, "cancelled": 1})


def test_an_open_job_comes_home_after_comfyui_was_killed(
    servers: Providers, comfyui: Host, tmp_path: Path
) -> None:
    servers.write_settings(tmp_path / "user")
    servers.fal.queue_looks = 10**6
    extra = ["--user-directory", str(tmp_path / "user"), "--output-directory", str(tmp_path / "output")]
    with HeadlessComfyUI(comfyui, extra_args=extra) as first:
        graph = run_on(request(T2V, 11, first), "WanDuetRunFal")
        first.client.queue(graph)
        until(lambda: any(job.looks for job in servers.fal.jobs.values()))
        os.kill(first.pid, signal.SIGKILL)
    servers.fal.queue_looks = 0
    with HeadlessComfyUI(comfyui, extra_args=extra) as second:
        until(lambda: saved_in(tmp_path / "output"))
        assert second.client.run(graph).outputs["run"]["images"]  # free, as the file is there
    assert servers.fal.summary() == {"jobs": 1, "cancelled": 0}
    assert len(saved_in(tmp_path / "output")) == 1


def test_the_key_is_nowhere_but_in_its_file(
    providers: Providers, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    providers.fal.script.plan("status", "tells the key")
    client.run(run_on(request(T2V, 12, host), "WanDuetRunFal"))
    providers.fal.key = "another"  # a server that refuses a key repeats it
    with pytest.raises(HostError) as refused:
        client.run(run_on(request(T2V, 13, host), "WanDuetRunFal"))
    assert "Cannot authenticate" in str(refused.value)
    texts = [str(refused.value), json.dumps(client.get("/history")), json.dumps(client.get("/wan_duet/keys"))]
    files = {
        file: file.read_bytes()
        for file in host.base.rglob("*")
        if file.is_file() and "custom_nodes" not in file.relative_to(host.base).parts
    }
    assert {"jobs.sqlite", "comfyui.log"} <= {file.name for file in files}
    for secret in (*KEYS.values(), KEYS["fal"].partition(":")[2]):
        assert [file.name for file, data in files.items() if secret.encode() in data] == ["keys.json"]
        assert not [text for text in texts if secret in text]
