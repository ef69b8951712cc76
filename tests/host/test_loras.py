"""Model files and LoRAs on the host: what may be chosen, what the nodes say, what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wan_duet.pipelines.embedded.toy_model import EMBEDDED, embedded_loras
from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.loading.wan_model import load_model

BLOCKS = Path(__file__).parents[2] / "workflows" / "api" / "Text to Video (building blocks).json"
STYLE = "style/a.safetensors"


@pytest.fixture(scope="module", autouse=True)
def files(models: Path) -> None:
    """A LoRA of which everything fits the toy model, and one of which little does."""
    rows, columns = load_model("toy").experts["high"].tensors["blocks.0.attn1.to_q.weight"].shape
    (models / "loras" / "style").mkdir()
    for name, modules in ((STYLE, ["blocks.0"]), ("foreign.safetensors", [f"blocks.{n}" for n in range(40)])):
        pairs = {}
        for module in modules:
            pairs[f"{module}.attn1.to_q.lora_A.weight"] = torch.full((1, columns), 0.01)
            pairs[f"{module}.attn1.to_q.lora_B.weight"] = torch.ones(rows, 1)
        save_file(pairs, models / "loras" / name)


def options(client: ComfyClient, node: str, name: str) -> list[str]:
    groups = client.get(f"/object_info/{node}")[node]["input"]
    inputs = {**groups["required"], **groups.get("optional", {})}
    return list(inputs[name][1]["options"])


def lora_graph(**settings: object) -> dict[str, Any]:
    """toy -> LoRA -> its report, shown."""
    unset = {"file": "none", "path": "", "weight_name": "", "scale": 1.0, "transformer": "high"}
    return {
        "model": {"class_type": "WanDuetLoadModel", "inputs": {"model": "toy", "precision": "auto"}},
        "lora": {"class_type": "WanDuetLora", "inputs": {"model": ["model", 0], **unset, **settings}},
        "shown": {"class_type": "PreviewAny", "inputs": {"source": ["lora", 1]}},
    }


def report(client: ComfyClient, **settings: object) -> str:
    outputs = client.run(lora_graph(**settings)).outputs
    assert outputs["lora"]["text"] == outputs["shown"]["text"]  # on the node itself, and for other nodes
    return str(outputs["shown"]["text"][0])


def test_single_files_and_folders_can_be_chosen_in_every_slot(client: ComfyClient) -> None:
    models = options(client, "WanDuetLoadModel", "model")
    assert models[0] == "toy"
    assert {"wan_high_noise.safetensors", "wan_low_noise.safetensors", "wan.gguf"} <= set(models)
    assert options(client, "WanDuetLoadModel", "low_model") == [
        "none",
        *(name for name in models if name not in EMBEDDED),
    ]
    for slot, file in (("vae", "2.1.safetensors"), ("text_encoder", "umt5.safetensors")):
        listed = options(client, "WanDuetLoadModel", slot)
        assert listed[0] == "auto"
        assert file in listed


@pytest.mark.parametrize("node", ["WanDuetLora", "WanDuetRequestLora"])
@pytest.mark.parametrize("name", ["file", "low_file"])
def test_embedded_loras_and_files_can_be_chosen(client: ComfyClient, node: str, name: str) -> None:
    listed = options(client, node, name)
    assert listed[: 1 + len(embedded_loras())] == ["none", *embedded_loras()]
    assert STYLE in listed


def test_the_report_is_shown_on_the_node_and_names_the_expert(client: ComfyClient) -> None:
    high = report(client, file=STYLE)
    assert "high at 1: 2 keys matched, 1 tensors changed" in high
    assert "low at" not in high
    both = report(client, path=STYLE, transformer="both", scale=0.5)
    assert both.count("at 0.5: 2 keys matched") == 2


def test_a_pair_shares_the_experts(client: ComfyClient) -> None:
    text = report(client, file=STYLE, low_file=STYLE, low_scale=0.25)
    assert "high at 1: 2 keys" in text
    assert "low at 0.25: 2 keys" in text


def test_a_list_is_for_programs_and_its_wrong_entry_is_named(client: ComfyClient) -> None:
    assert "low at 2: 2 keys" in report(
        client, loras=f'[{{"path": "{STYLE}", "scale": 2.0, "transformer": "low"}}]'
    )
    with pytest.raises(HostError, match=r"loras\[1\]\.scale: got"):
        report(client, file=STYLE, loras='[{"path": "b", "scale": "1"}]')


def test_a_lora_of_which_little_fits_is_refused_unless_allowed(client: ComfyClient) -> None:
    with pytest.raises(HostError, match=r"foreign\.safetensors"):
        report(client, file="foreign.safetensors")
    assert "keys not in this model" in report(client, file="foreign.safetensors", allow_partial=True)


def test_rows_are_added_to_what_the_widgets_choose(client: ComfyClient) -> None:
    rows = [{"file": STYLE, "high": 0.5, "low": 0.25}, {"file": "gone.safetensors", "on": False}]
    text = report(client, file=STYLE, rows=json.dumps(rows))
    assert [f"{place}: 2 keys" in text for place in ("high at 1", "high at 0.5", "low at 0.25")] == [True] * 3


def test_nothing_chosen_leaves_the_model_as_it_is(client: ComfyClient) -> None:
    assert report(client, rows='[{"file": "none"}]') == "No LoRA is chosen: the model is unchanged."


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            '[{"file": "toy/outlined"}, {"file": "gone.safetensors"}]',
            r"rows\[1\]\.file: gone\.safetensors is not in",
        ),
        ('[{"file": "../outside.safetensors"}]', r"rows\[0\]\.file: .* leads out of models/loras"),
        ('[{"file": "toy/outlined", "strength": 1}]', r"rows\[0\]\.strength: there is no such key"),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_wrong_row_is_refused_by_its_number(
    client: ComfyClient, rows: str, message: str, linked: bool
) -> None:
    graph = lora_graph(rows=["text", 0] if linked else rows)
    graph["text"] = {"class_type": "PrimitiveString", "inputs": {"value": rows}}
    with pytest.raises(HostError, match=message):
        client.run(graph)


@pytest.mark.parametrize("slot", ["file", "low_file", "path", "rows"])
def test_a_file_that_was_written_again_is_read_again(client: ComfyClient, models: Path, slot: str) -> None:
    shape = load_model("toy").experts["high"].tensors["blocks.0.attn1.to_q.weight"].shape
    for rank in (1, 3):
        factors = {"A": torch.ones(rank, shape[1]), "B": torch.ones(shape[0], rank)}
        pair = {f"blocks.0.attn1.to_q.lora_{side}.weight": factor for side, factor in factors.items()}
        save_file(pair, models / "loras" / "again.safetensors")
        chosen = '[{"file": "again.safetensors"}]' if slot == "rows" else "again.safetensors"
        assert f"rank {rank}," in report(client, **{slot: chosen})


@pytest.mark.parametrize("name", ["file", "low_file"])
def test_a_missing_lora_of_a_pair_is_named_once_under_its_widget(client: ComfyClient, name: str) -> None:
    wanted = rf"{name}: 'gone\.safetensors' not in models/loras; put it there"
    with pytest.raises(HostError, match=wanted) as refused:
        client.run(lora_graph(**{"file": STYLE, "low_file": STYLE, name: "gone.safetensors"}))
    assert str(refused.value).count("gone.safetensors") == 1


@pytest.mark.parametrize(
    ("slot", "folder"),
    [
        ("model", "diffusers or models/diffusion_models or models/checkpoints"),
        ("low_model", "diffusers or models/diffusion_models or models/checkpoints"),
        ("vae", "vae"),
        ("text_encoder", "text_encoders"),
    ],
)
def test_a_missing_model_file_is_named_with_its_folder(client: ComfyClient, slot: str, folder: str) -> None:
    graph = lora_graph(file=STYLE)
    graph["model"]["inputs"][slot] = "gone.safetensors"
    with pytest.raises(HostError, match=rf"{slot}: 'gone\.safetensors' not in models/{folder}; put it"):
        client.run(graph)


@pytest.mark.parametrize(
    "path", ["../outside.safetensors", "/etc/passwd", "http://files.example/a.safetensors"]
)
def test_no_path_leads_out_of_the_folders_or_of_https(client: ComfyClient, models: Path, path: str) -> None:
    save_file({"a": torch.ones(1)}, models / "outside.safetensors")
    with pytest.raises(HostError, match=r"is outside|only https is supported"):
        report(client, path=path)


def blocks(**files: str) -> dict[str, Any]:
    """The building blocks on single files: one small frame in two steps."""
    graph: dict[str, Any] = json.loads(BLOCKS.read_text(encoding="utf-8"))
    small = {"width": 64, "height": 48, "num_frames": 1, "steps": 2}
    for node in graph.values():
        changed = files if node["class_type"] == "WanDuetLoadModel" else small
        node["inputs"].update({name: value for name, value in changed.items() if name in node["inputs"]})
    return graph


def test_single_files_make_a_video_and_auto_finds_what_fits(
    host: HeadlessComfyUI, client: ComfyClient
) -> None:
    graph = blocks(model="wan_high_noise.safetensors", low_model="wan_low_noise.safetensors")
    before = len(host.log())
    job = client.run(graph)
    (saved,) = (name for name, node in graph.items() if node["class_type"] == "SaveVideo")
    assert saved in job.outputs
    assert "its name says" not in host.log()[before:]


def test_names_in_the_wrong_slots_are_warned_of(host: HeadlessComfyUI, client: ComfyClient) -> None:
    client.run(blocks(model="wan_low_noise.safetensors", low_model="wan_high_noise.safetensors"))
    assert "wan_low_noise.safetensors is used as the high-noise expert; its name says low" in host.log()
    assert "wan_high_noise.safetensors is used as the low-noise expert; its name says high" in host.log()


def test_a_vae_that_does_not_fit_is_refused_before_anything_is_loaded(
    host: HeadlessComfyUI, client: ComfyClient
) -> None:
    before = host.log().count(" GiB on cpu")  # of the line that says what is loaded
    with pytest.raises(HostError, match="48 latent channels"):
        client.run(
            blocks(
                model="wan_high_noise.safetensors",
                low_model="wan_low_noise.safetensors",
                vae="2.2.safetensors",
            )
        )
    assert host.log().count(" GiB on cpu") == before
