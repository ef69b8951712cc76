"""The shipped workflows run in a real ComfyUI, and what comes out is what the receipt says."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from wan_duet.pipelines.embedded.toy_model import EMBEDDED, TOY_IMAGE, embedded_loras
from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.generate.local_receipt import latents_hash
from wan_duet.pipelines.headless.client import ComfyClient, WorkflowResult
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.plan import Plan
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.probe import VideoFacts, probe

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SAVED = Path(__file__).parents[1] / "nodes" / "saved"
DRAWN = {"drawn": "in the browser"}  # stands for the graph with its layout
LORAS = "LoRA high, low and both"
SPEECH = "Speech to Video"
ONE_REQUEST, BLOCKS = "Text to Video (one request)", "Text to Video (building blocks)"
IMAGE = "Image to Video"
PICTURE, REDRAWN, VIDEO = "Text to Image", "Image to Image", "Video to Video"
NO_TOY_IMAGE = not (EMBEDDED[TOY_IMAGE] / "model_index.json").is_file()


def workflow(name: str, folder: Path = WORKFLOWS, **changed: object) -> dict[str, Any]:
    """A shipped workflow, with these inputs changed wherever a node has them."""
    graph: dict[str, Any] = json.loads((folder / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph.values():
        node["inputs"].update({key: value for key, value in changed.items() if key in node["inputs"]})
    return graph


def add(graph: dict[str, Any], kind: str, **inputs: object) -> str:
    """Add a node and return its id. An input like ("WanDuetDecode", 0) is linked to that node's output."""
    linked = {
        name: [id_of(graph, value[0]), value[1]] if isinstance(value, tuple) else value
        for name, value in inputs.items()
    }
    name = f"added {len(graph)}"
    graph[name] = {"class_type": kind, "inputs": linked}
    return name


def id_of(graph: dict[str, Any], kind: str) -> str:
    (found,) = (name for name, node in graph.items() if node["class_type"] == kind)
    return found


def video_of(
    kind: str, client: ComfyClient, job: WorkflowResult, graph: dict[str, Any], to: Path
) -> VideoFacts:
    """The video that the history lists for the node of this class, read back."""
    recorded = client.job(job.prompt_id)
    assert recorded is not None
    (file,) = (file for file in recorded.files if file.node_id == id_of(graph, kind))
    assert file.folder == ("output" if kind == "SaveVideo" else "temp")
    return probe(client.download(file, to / file.name))


def text_of(job: WorkflowResult, node: str) -> str:
    return str(job.outputs[node]["text"][0])


@pytest.fixture(scope="module")
def shared(host: HeadlessComfyUI) -> dict[str, Any]:
    """The one-request workflow, run once, with what its text outputs say."""
    graph = workflow(ONE_REQUEST)
    texts = {
        key: add(graph, "PreviewAny", source=("WanDuetRunLocal", slot))
        for key, slot in (("seed", 2), ("prompt", 3), ("receipt", 4))
    }
    job = host.run(graph, extra_data={"extra_pnginfo": {"workflow": DRAWN}})
    return {"graph": graph, "job": job, **{key: text_of(job, node) for key, node in texts.items()}}


def test_one_request_becomes_the_video_its_receipt_describes(
    client: ComfyClient, shared: dict[str, Any], tmp_path: Path
) -> None:
    graph, job, receipt = shared["graph"], shared["job"], json.loads(shared["receipt"])
    facts = video_of("SaveVideo", client, job, graph, tmp_path)
    plan = Plan.from_dict(receipt["plan"])
    assert (facts.frames, facts.fps) == (plan.frames_out, plan.fps_out)
    assert (facts.width, facts.height) == (plan.width, plan.height) == (112, 64)
    request = graph[id_of(graph, "WanDuetTextToVideo")]["inputs"]
    assert (shared["seed"], shared["prompt"]) == (str(request["seed"]), request["prompt"])


@pytest.mark.parametrize("node", ["WanDuetRunLocal", "SaveVideo"])
def test_the_video_carries_graph_and_receipt(
    client: ComfyClient, shared: dict[str, Any], tmp_path: Path, node: str
) -> None:
    tags = video_of(node, client, shared["job"], shared["graph"], tmp_path).tags
    assert json.loads(tags["workflow"]) == DRAWN
    sent, found = shared["graph"], json.loads(tags["prompt"])
    assert {name: item["inputs"] for name, item in found.items()} == {
        name: item["inputs"] for name, item in sent.items()
    }
    embedded, shown = json.loads(tags["wan_duet"]), json.loads(shared["receipt"])
    assert embedded["latents_sha256"] == shown["latents_sha256"]
    assert embedded["plan"] == shown["plan"]


def test_runner_shows_its_video_and_check_its_answer(shared: dict[str, Any]) -> None:
    graph, outputs = shared["graph"], shared["job"].outputs
    runner = outputs[id_of(graph, "WanDuetRunLocal")]
    assert [item["type"] for item in runner["images"]] == ["temp"]
    assert runner["animated"] == [True]
    assert "text-to-video can run (local on toy)" in outputs[id_of(graph, "WanDuetCheck")]["text"][0]


def test_building_blocks_give_the_same_bits(
    host: HeadlessComfyUI, client: ComfyClient, shared: dict[str, Any], tmp_path: Path
) -> None:
    graph = workflow(BLOCKS)
    add(graph, "SaveLatent", samples=("WanDuetTwoStageSampler", 0), filename_prefix="blocks")
    job = client.run(graph)
    (saved,) = host.output.glob("blocks_*.latent")
    receipt = json.loads(shared["receipt"])
    assert latents_hash(load_file(saved)["latent_tensor"]) == receipt["latents_sha256"]
    facts = video_of("SaveVideo", client, job, graph, tmp_path)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (112, 64, 17, 16)


@pytest.fixture(scope="module")
def from_a_picture(host: HeadlessComfyUI) -> dict[str, Any]:
    """The image-to-video workflow with few steps, and the same with building blocks, on one picture."""
    graph = workflow(IMAGE, num_inference_steps=4, interpolator_model="none")
    request, runner = id_of(graph, "WanDuetImageToVideo"), graph[id_of(graph, "SaveVideo")]["inputs"]["video"]
    asked, model = graph[request]["inputs"], graph[runner[0]]["inputs"]["model"]
    texts = ("prompt", "negative_prompt")
    prompts = add(graph, "WanDuetEncodePrompt", model=model, **{name: asked[name] for name in texts})
    size = {"width": 64, "height": 64, "num_frames": 17}
    condition = add(
        graph,
        "WanDuetImageCondition",
        model=model,
        positive=[prompts, 0],
        negative=[prompts, 1],
        image=asked["image"],
        **size,
    )
    sampled = add(
        graph,
        "WanDuetTwoStageSampler",
        model=model,
        positive=[condition, 0],
        negative=[condition, 1],
        latent=[condition, 2],
        seed=asked["seed"],
        steps=4,
        guidance_scale=asked["guidance_scale"],
        guidance_scale_2=asked["guidance_scale_2"],
        shift=asked["shift"],
        solver="unipc",
        boundary=-1.0,
        strength=1.0,
    )
    add(graph, "SaveLatent", samples=[sampled, 0], filename_prefix="from_a_picture")
    receipt = add(graph, "PreviewAny", source=[runner[0], 4])
    job = host.run(graph)
    return {"graph": graph, "job": job, "receipt": json.loads(text_of(job, receipt))}


@pytest.mark.skipif(NO_TOY_IMAGE, reason="this copy has no embedded model that begins with a picture")
def test_a_picture_becomes_a_video_of_its_shape(
    client: ComfyClient, from_a_picture: dict[str, Any], tmp_path: Path
) -> None:
    facts = video_of("SaveVideo", client, from_a_picture["job"], from_a_picture["graph"], tmp_path)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 64, 17, 16)
    receipt = from_a_picture["receipt"]
    assert receipt["plan"]["family"] == "toy-image"
    assert receipt["request"]["image_url"].startswith("sha256:")
    assert receipt["inputs"]["image_url"]["sha256"]
    answer = from_a_picture["job"].outputs[id_of(from_a_picture["graph"], "WanDuetCheck")]["text"][0]
    assert "image-to-video can run (local on toy-image)" in answer


@pytest.mark.skipif(NO_TOY_IMAGE, reason="this copy has no embedded model that begins with a picture")
def test_building_blocks_with_a_picture_give_the_same_bits(
    host: HeadlessComfyUI, from_a_picture: dict[str, Any]
) -> None:
    (saved,) = host.output.glob("from_a_picture_*.latent")
    latents = load_file(saved)["latent_tensor"]
    assert latents_hash(latents) == from_a_picture["receipt"]["latents_sha256"]


@pytest.mark.parametrize(
    ("name", "changed", "frames", "fps"),
    [
        ("Render a long video", {"num_frames": 9}, 17, 32),
        ("Interpolate and re-encode", {}, 65, 64),  # the 17 frames of the toy, and 3 between each two
    ],
)
def test_a_workflow_that_smooths_gives_the_frames_in_between(
    client: ComfyClient, tmp_path: Path, name: str, changed: dict[str, object], frames: int, fps: int
) -> None:
    graph = workflow(name, steps=2, num_inference_steps=2, **changed)
    facts = video_of("SaveVideo", client, client.run(graph), graph, tmp_path)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (112, 64, frames, fps)


@pytest.mark.parametrize(("name", "ending"), [(PICTURE, ".png"), (REDRAWN, ".jpg")])
def test_a_picture_goes_to_images_and_carries_graph_and_receipt(
    client: ComfyClient, tmp_path: Path, name: str, ending: str
) -> None:
    graph = workflow(name, num_inference_steps=2)
    runner = graph[id_of(graph, "SaveImage")]["inputs"]["images"][0]
    blocked = add(graph, "SaveVideo", video=[runner, 0], filename_prefix="none", format="auto", codec="auto")
    receipt = add(graph, "PreviewAny", source=[runner, 4])
    job = client.run(graph)
    assert blocked not in job.outputs
    assert job.outputs[id_of(graph, "SaveImage")]["images"]
    recorded = client.job(job.prompt_id)
    assert recorded is not None
    (file,) = (file for file in recorded.files if file.node_id == runner)
    assert file.name.endswith(ending)
    shown = json.loads(text_of(job, receipt))
    with Image.open(client.download(file, tmp_path / file.name)) as image:
        assert image.size == (64, 64)
        tags = image.text if ending == ".png" else exif_tags(image)
    assert json.loads(tags["wan_duet"])["latents_sha256"] == shown["latents_sha256"]
    assert json.loads(tags["prompt"])[runner]["class_type"] == "WanDuetRunLocal"


def exif_tags(image: Image.Image) -> dict[str, str]:
    lines = (str(line).partition(":") for line in image.getexif().values())
    return {name: value for name, _, value in lines}


def test_a_video_is_drawn_over_by_the_runner_and_by_building_blocks_alike(
    host: HeadlessComfyUI, client: ComfyClient, tmp_path: Path
) -> None:
    graph = workflow(VIDEO, num_inference_steps=4)
    second = graph[id_of(graph, "SaveVideo")]["inputs"]["video"][0]
    asked = graph[graph[second]["inputs"]["request"][0]]["inputs"]
    model = graph[second]["inputs"]["model"]
    texts = {name: asked[name] for name in ("prompt", "negative_prompt")}
    prompts = add(graph, "WanDuetEncodePrompt", model=model, **texts)
    size = {"width": 64, "height": 64, "num_frames": 17, "resample_fps": False, "frames_per_second": 16.0}
    start = add(graph, "WanDuetVideoCondition", model=model, video=asked["video"], **size)
    values = {
        name: asked[name] for name in ("seed", "guidance_scale", "guidance_scale_2", "shift", "strength")
    }
    sampled = add(
        graph, "WanDuetTwoStageSampler", model=model, positive=[prompts, 0], negative=[prompts, 1],
        latent=[start, 0], steps=4, solver="unipc", boundary=-1.0, **values,
    )  # fmt: skip
    add(graph, "SaveLatent", samples=[sampled, 0], filename_prefix="drawn_over")
    receipt = add(graph, "PreviewAny", source=[second, 4])
    job = client.run(graph)
    facts = video_of("SaveVideo", client, job, graph, tmp_path)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 64, 33, 32)
    (saved,) = host.output.glob("drawn_over_*.latent")
    shown = json.loads(text_of(job, receipt))
    assert latents_hash(load_file(saved)["latent_tensor"]) == shown["latents_sha256"]
    assert shown["request"]["video_url"].startswith("sha256:")
    assert shown["inputs"]["video_url"]["sha256"]


def test_a_file_of_the_input_folder_may_be_named_and_no_other(
    host: HeadlessComfyUI, client: ComfyClient
) -> None:
    graph = workflow(REDRAWN, num_inference_steps=2)
    node = graph[id_of(graph, "WanDuetImageToImage")]["inputs"]
    del node["image"]
    (host.input / "mine.png").write_bytes(image_bytes(np.zeros((64, 64, 3), np.uint8), "png", {}))
    node["image_url"] = "mine.png"
    assert id_of(graph, "SaveImage") in client.run(graph).outputs
    for name in ("../output/secret.png", "/etc/hostname"):
        node["image_url"] = name
        with pytest.raises(HostError, match=r"image_url: .* no file of ComfyUI's input folder"):
            client.run(graph)


def test_acceleration_as_requested_counts_what_it_skipped(client: ComfyClient) -> None:
    graph = workflow(PICTURE)
    graph[id_of(graph, "WanDuetRunLocal")]["inputs"]["acceleration"] = "as requested"
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    counted = json.loads(text_of(client.run(graph), receipt))["acceleration"]
    assert sum(counted["forwards"].values()) == 54
    assert sum(counted["skipped"].values()) > 0


def test_helpers_are_chosen_on_the_model_and_the_check_knows_them(client: ComfyClient) -> None:
    graph = workflow(PICTURE, num_inference_steps=2, enable_prompt_expansion="on")
    graph[id_of(graph, "WanDuetTextToImage")]["inputs"]["enable_output_safety_checker"] = "on"
    runner, answer = graph[id_of(graph, "WanDuetRunLocal")], graph[id_of(graph, "WanDuetCheck")]
    alone = client.run({name: node for name, node in graph.items() if node not in (runner, *savers(graph))})
    assert "Wan Duet Prompt Expander" in alone.outputs[id_of(graph, "WanDuetCheck")]["text"][0]
    expander = add(graph, "WanDuetPromptExpander", model=("WanDuetLoadModel", 0), language_model="talker")
    checker = add(graph, "WanDuetSafetyChecker", model=[expander, 0], checker="looker")
    runner["inputs"]["model"] = answer["inputs"]["model"] = [checker, 0]
    prompt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 3))
    job = client.run(graph)
    assert "text-to-image can run" in job.outputs[id_of(graph, "WanDuetCheck")]["text"][0]
    asked = graph[id_of(graph, "WanDuetTextToImage")]["inputs"]["prompt"]
    assert text_of(job, prompt) not in ("", asked)
    graph[checker]["inputs"]["checker"] = "refuser"
    with pytest.raises(HostError, match="flagged as nsfw"):
        client.run(graph)


def savers(graph: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in graph.values() if node["class_type"].startswith("Save")]


def test_images_are_given_when_asked_for_and_else_their_reader_is_an_error(client: ComfyClient) -> None:
    graph = workflow(ONE_REQUEST, num_inference_steps=2)
    images = add(graph, "PreviewImage", images=("WanDuetRunLocal", 1))
    graph[images]["_meta"] = {"title": "My frames"}
    with pytest.raises(HostError, match="return_images: off, but images is connected to My frames; switch"):
        client.run(graph)
    graph[id_of(graph, "WanDuetRunLocal")]["inputs"]["return_images"] = True
    assert len(client.run(graph).outputs[images]["images"]) == 33


def test_images_that_are_connected_after_the_run_are_an_error_too(client: ComfyClient) -> None:
    graph = workflow(ONE_REQUEST, num_inference_steps=2, interpolator_model="none", seed=203)
    client.run(graph)
    images = add(graph, "PreviewImage", images=("WanDuetRunLocal", 1))
    for _ in range(2):  # the run is cached the first time
        with pytest.raises(HostError, match="return_images: off, but images is connected to PreviewImage"):
            client.run(graph)
    del graph[images]
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    assert json.loads(text_of(client.run(graph), receipt))["latents_reused"]


def test_saved_runs_lie_in_output_with_their_receipt(host: HeadlessComfyUI, client: ComfyClient) -> None:
    prefix = "mine/%width%x%height%"
    graph = workflow(ONE_REQUEST, num_inference_steps=2, save=True)
    graph[id_of(graph, "WanDuetRunLocal")]["inputs"]["filename_prefix"] = prefix
    client.run(graph)
    files = sorted(file.name for file in (host.output / "mine").iterdir())
    assert files == ["112x64_00001_.json", "112x64_00001_.mp4"]


@pytest.mark.parametrize("prefix", ["../evil", "/evil", "a/../../evil"])
@pytest.mark.parametrize("name", [ONE_REQUEST, BLOCKS])
def test_no_prefix_leads_out_of_the_folder(
    host: HeadlessComfyUI, client: ComfyClient, name: str, prefix: str
) -> None:
    with pytest.raises(HostError, match="outside the output folder"):
        client.run(workflow(name, num_inference_steps=2, steps=2, save=True, filename_prefix=prefix))
    assert not list(host.base.rglob("*evil*"))


def test_a_demand_that_cannot_be_met_stops_before_anything_is_loaded(
    host: HeadlessComfyUI, client: ComfyClient
) -> None:
    before = host.log().count("loading")
    graph = workflow(ONE_REQUEST, enable_prompt_expansion="on")
    with pytest.raises(HostError, match="enable_prompt_expansion"):
        client.run(graph)
    assert host.log().count("loading") == before


@pytest.mark.parametrize("name", [ONE_REQUEST, BLOCKS])
def test_what_was_saved_with_an_older_version_still_runs(client: ComfyClient, name: str) -> None:
    graph = workflow(name, SAVED, num_inference_steps=2, steps=2)
    assert id_of(graph, "SaveVideo") in client.run(graph).outputs


@pytest.mark.skipif(not embedded_loras(), reason="this copy has no embedded LoRAs")
def test_loras_act_on_the_experts_they_are_chosen_for(client: ComfyClient) -> None:
    graph = workflow(LORAS, num_inference_steps=4, interpolator_model="none")
    receipts = [
        add(graph, "PreviewAny", source=[name, 4])
        for name, node in list(graph.items())
        if node["class_type"] == "WanDuetRunLocal"
    ]
    job = client.run(graph)
    used = [json.loads(text_of(job, node))["model"]["loras"] for node in receipts]
    assert [[(lora["file"], lora["expert"]) for lora in loras] for loras in used] == [
        [("circling.safetensors", "high"), ("outlined.safetensors", "low")],
        [("hopping_stripes.safetensors", "high"), ("hopping_stripes.safetensors", "low")],
    ]
    saved = [name for name, node in graph.items() if node["class_type"] == "SaveVideo"]
    assert all(name in job.outputs for name in saved)


def test_the_template_browser_offers_them_with_a_picture(host: HeadlessComfyUI, client: ComfyClient) -> None:
    ((pack, names),) = client.get("/workflow_templates").items()
    assert sorted(names) == sorted(file.stem for file in WORKFLOWS.glob("*.json"))
    for file in (f"{name}{suffix}" for name in names for suffix in (".json", ".jpg")):
        url = f"{host.url}/api/workflow_templates/{pack}/{urllib.parse.quote(file)}"
        with urllib.request.urlopen(url) as answer:  # noqa: S310 (our own server)
            assert answer.read() == (WORKFLOWS / file).read_bytes()


def test_the_shipped_workflow_speaks_as_long_as_its_sound(client: ComfyClient, tmp_path: Path) -> None:
    graph = workflow(SPEECH, num_inference_steps=2)
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    job = client.run(graph)
    facts = video_of("SaveVideo", client, job, graph, tmp_path)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 64, 40, 16)
    assert facts.audio is not None
    assert abs(facts.audio.duration_s - 2.5) < 1 / 16
    written = json.loads(text_of(job, receipt))
    assert written["clips"] == {"count": 2, "frames": 20}
    assert written["request"]["audio_url"] == "speech.wav"
    assert (
        "speech-to-video can run (local on toy-speech)"
        in job.outputs[id_of(graph, "WanDuetCheck")]["text"][0]
    )


def test_a_pose_video_and_a_limit_reach_the_run(client: ComfyClient, tmp_path: Path) -> None:
    graph = workflow(SPEECH, num_inference_steps=2, max_seconds=1.0)
    images = add(graph, "EmptyImage", width=48, height=48, batch_size=5, color=255)
    pose = add(graph, "CreateVideo", images=[images, 0], fps=16.0)
    graph[id_of(graph, "WanDuetRunLocal")]["inputs"]["pose_video"] = [pose, 0]
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    job = client.run(graph)
    assert video_of("SaveVideo", client, job, graph, tmp_path).frames == 16
    assert "pose_video" in json.loads(text_of(job, receipt))["inputs"]


def test_a_model_that_cannot_speak_is_refused_before_anything_is_loaded(
    host: HeadlessComfyUI, client: ComfyClient
) -> None:
    before = host.log().count("loading")
    graph = workflow(SPEECH)
    graph[id_of(graph, "WanDuetLoadModel")]["inputs"]["model"] = "toy"
    with pytest.raises(HostError, match="it cannot do speech-to-video"):
        client.run(graph)
    assert host.log().count("loading") == before


def test_a_file_outside_the_input_folder_is_no_sound(client: ComfyClient) -> None:
    graph = workflow(SPEECH, audio_url="/etc/hostname")
    with pytest.raises(HostError, match="audio_url: /etc/hostname is no file of ComfyUI's input folder"):
        client.run(graph)
