"""The workflows for real weights, and the one that opens as an app: both forms of each, from a few lines.

    python -m tools.generated

writes them. Inputs, their order and their defaults are those of tests/nodes/snapshot.json, files and
addresses those of pipelines/model_files, so a node that grows and a file that moves reach every template.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan_duet.pipelines.model_files.catalogue import ModelFile

from .template_list import TEMPLATES, Template

__all__ = ["template_pages"]

_ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = _ROOT / "workflows"
_SNAPSHOT = _ROOT / "tests" / "nodes" / "snapshot.json"
_NAMESPACE = uuid.UUID("6f0f6a53-1a7c-4f0e-9b7e-2f4c0e0d0001")  # of the first workflow of this pack
_SOCKETS = frozenset(
    {"IMAGE", "VIDEO", "AUDIO", "MODEL", "CLIP", "VAE", "CLIP_VISION", "WAN_MODEL", "WAN_REQUEST"}
)
_OPTIONAL = 7  # the shape that the frontend gives an optional input
_GAP = 80  # pixels between two nodes of a column, the title of the lower one included
# Pixels of what a node shows below its widgets: a picture, a video, a report, a table.
_SHOWS = {
    "LoadImage": 260,
    "SaveVideo": 400,
    "WanDuetRunLocal": 380,
    "WanDuetCheck": 120,
    "WanDuetLora": 260,
    "WanDuetLoadModel": 150,
}
_TEXTS = frozenset({"prompt", "negative_prompt", "storyboard"})  # widgets of several lines

# Of core, as both hosts have them: inputs, outputs. SaveVideo is saved as 0.25 does; 0.33 reads that too.
_CORE: dict[str, tuple[list[list[Any]], list[list[str]]]] = {
    "LoadImage": ([["image", "COMBO", "example.png", "required"]], [["IMAGE", "IMAGE"], ["MASK", "MASK"]]),
    "EmptyAudio": (
        [
            ["duration", "FLOAT", 4.0, "required"],
            ["sample_rate", "INT", 44100, "required"],
            ["channels", "INT", 2, "required"],
        ],
        [["AUDIO", "AUDIO"]],
    ),
    "UNETLoader": (
        [["unet_name", "COMBO", "", "required"], ["weight_dtype", "COMBO", "default", "required"]],
        [["MODEL", "MODEL"]],
    ),
    "CLIPLoader": (
        [
            ["clip_name", "COMBO", "", "required"],
            ["type", "COMBO", "wan", "required"],
            ["device", "COMBO", "default", "optional"],
        ],
        [["CLIP", "CLIP"]],
    ),
    "VAELoader": ([["vae_name", "COMBO", "", "required"]], [["VAE", "VAE"]]),
    "SaveVideo": (
        [
            ["video", "VIDEO", None, "required"],
            ["filename_prefix", "STRING", "video/WanDuet", "required"],
            ["format", "COMBO", "auto", "required"],
            ["codec", "COMBO", "auto", "required"],
        ],
        [["video", "VIDEO"]],
    ),
}
_ONLY_IN_THE_API = {"SaveVideo": {"format.codec": "auto"}}  # 0.33 asks for it, 0.25 ignores it
_TITLES = {
    "LoadImage": "Load Image",
    "EmptyAudio": "Empty Audio",
    "SaveVideo": "Save Video",
    "UNETLoader": "Load Diffusion Model",
    "CLIPLoader": "Load CLIP",
    "VAELoader": "Load VAE",
}
# Slot of a set of files -> ComfyUI's loader of it, its widget, and the input of Model from ComfyUI.
_LOADERS = {
    "model": ("UNETLoader", "unet_name", "high"),
    "low_model": ("UNETLoader", "unet_name", "low"),
    "text_encoder": ("CLIPLoader", "clip_name", "clip"),
    "vae": ("VAELoader", "vae_name", "vae"),
}


def template_pages() -> dict[Path, Callable[[], str]]:
    """{file: what it holds}, both forms of each template."""
    pages: dict[Path, Callable[[], str]] = {}
    for template in TEMPLATES:
        pages[WORKFLOWS / f"{template.name}.json"] = lambda one=template: _text(_Graph(one).ui())  # type: ignore[misc]
        pages[WORKFLOWS / "api" / f"{template.name}.json"] = lambda one=template: _text(_Graph(one).api())  # type: ignore[misc]
    return pages


def _text(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


@dataclass
class _Node:
    """inputs: {name: a value, or (node, output)}; those that are not named have their default."""

    id: int
    type: str
    place: tuple[int, int, int]  # x, y, width
    inputs: Mapping[str, Any]
    title: str = ""
    files: tuple[ModelFile, ...] = ()


class _Graph:
    """The nodes of a template, from left to right: files and media, request, runner and check, result."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.schema = {**json.loads(_SNAPSHOT.read_text(encoding="utf-8"))}
        self.nodes = list(self._nodes())

    def ui(self) -> dict[str, Any]:
        links: list[list[Any]] = []
        nodes = [
            self._note(),
            *(self._ui_node(order, node, links) for order, node in enumerate(self.nodes, 1)),
        ]
        for number, source, slot, *_ in links:
            output = nodes[source - 1]["outputs"][slot]
            output["links"] = [*(output["links"] or ()), number]
        extra: dict[str, Any] = {"linearData": self._app()}
        if self.template.app:
            extra["linearMode"] = True
        return {
            "id": str(uuid.uuid5(_NAMESPACE, self.template.name)),
            "revision": 0,
            "last_node_id": len(nodes),
            "last_link_id": len(links),
            "nodes": nodes,
            "links": links,
            "groups": [],
            "config": {},
            "extra": extra,
            "version": 0.4,
        }

    def api(self) -> dict[str, Any]:
        return {
            str(node.id): {
                "inputs": {**self._api_inputs(node), **_ONLY_IN_THE_API.get(node.type, {})},
                "class_type": node.type,
                "_meta": {"title": self._title(node)},
            }
            for node in self.nodes
        }

    def _nodes(self) -> Iterator[_Node]:
        if self.template.of_comfyui:
            yield from self._nodes_of_comfyui()
            return
        template, files = self.template, self.template.files
        chosen = {"model": template.model} if files is None else {s: f.name for s, f in files.slots.items()}
        slots = () if files is None else tuple(files.slots.values())
        last = _Node(2, "WanDuetLoadModel", (40, 440, 380), chosen, files=slots)
        yield last
        media: dict[str, tuple[int, int]] = {}
        number = 3
        if template.image_model:
            place, title = (40, self._below(last), 380), "Load Model for shots that continue"
            yield _Node(number, "WanDuetLoadModel", place, {"model": template.image_model}, title=title)
            number += 1
        for socket, title in template.media.items():
            kind = "EmptyAudio" if socket == "audio" else "LoadImage"
            shown = "" if title in _TITLES.values() else title
            last = _Node(number, kind, (40, self._below(last), 380), {}, title=shown)
            yield last
            media[socket] = (number, 0)
            number += 1
        model, top = (2, 0), 90
        if files is not None and files.loras:
            high, low = (file.name for file in files.loras)
            values = {"model": model, "file": high, "low_file": low}
            lora = _Node(number, "WanDuetLora", (480, top, 400), values, title="LoRA", files=files.loras)
            yield lora
            model, number, top = (number, 0), number + 1, self._below(lora)
        yield from self._run(number, model, top, media)

    def _nodes_of_comfyui(self) -> Iterator[_Node]:
        """ComfyUI's loaders, one below the other, and the model that they become."""
        assert self.template.files is not None  # noqa: S101
        wires: dict[str, tuple[int, int]] = {}
        number, top = 2, 440
        for slot, file in self.template.files.slots.items():
            kind, widget, to = _LOADERS[slot]
            loader = _Node(number, kind, (40, top, 380), {widget: file.name}, files=(file,))
            yield loader
            wires[to] = (number, 0)
            number, top = number + 1, self._below(loader)
        model = _Node(number, "WanDuetFromComfy", (480, 90, 400), wires)
        yield model
        yield from self._run(number + 1, (number, 0), self._below(model), {})

    def _run(
        self, number: int, model: tuple[int, int], top: int, media: Mapping[str, tuple[int, int]]
    ) -> Iterator[_Node]:
        """The request, whose node has this number and this place, its runner, its check and the result."""
        both = {"request": (number, 0), "model": model}
        if self.template.image_model:
            both["image_model"] = (3, 0)
        yield _Node(number, self.template.node, (480, top, 400), {**self.template.values, **media})
        runner = _Node(number + 1, "WanDuetRunLocal", (940, 90, 400), both)
        yield runner
        yield _Node(number + 2, "WanDuetCheck", (940, self._below(runner), 400), both)
        yield _Node(number + 3, "SaveVideo", (1400, 90, 560), {"video": (number + 1, 0)})

    def _rows(self, kind: str) -> list[list[Any]]:
        """[name, type, default, required or optional] of each input, in the order of the schema."""
        return _CORE[kind][0] if kind in _CORE else self.schema[kind]["inputs"]

    def _outputs(self, node: _Node) -> list[list[str]]:
        return _CORE[node.type][1] if node.type in _CORE else self.schema[node.type]["outputs"]

    def _height(self, kind: str) -> int:
        """Room in pixels for a node in either canvas, what it shows after a run included."""
        rows = self._rows(kind)
        sockets = sum(_is_socket(row[1]) for row in rows)
        texts = len(_TEXTS.intersection(row[0] for row in rows))
        return 60 + 22 * sockets + 26 * (len(rows) - sockets - texts) + 110 * texts + _SHOWS.get(kind, 0)

    def _below(self, node: _Node) -> int:
        """The y of a node under this one."""
        return node.place[1] + self._height(node.type) + _GAP

    def _title(self, node: _Node) -> str:
        return node.title or _TITLES.get(node.type) or _display_name(node.type)

    def _api_inputs(self, node: _Node) -> dict[str, Any]:
        """As the browser sends them: widgets in their order, then the links."""
        widgets, links = {}, {}
        for name, kind, default, _ in self._rows(node.type):
            value = node.inputs.get(name, default)
            if isinstance(value, tuple):
                links[name] = [str(value[0]), value[1]]
            elif not _is_socket(kind):
                widgets[name] = value
        return {**widgets, **links}

    def _ui_node(self, order: int, node: _Node, links: list[list[Any]]) -> dict[str, Any]:
        rows = self._rows(node.type)
        sockets = [row for row in rows if _is_socket(row[1])]
        widgets = [row for row in rows if not _is_socket(row[1])]
        inputs: list[dict[str, Any]] = []
        for name, kind, _, need in [*sockets, *widgets]:
            item: dict[str, Any] = {"localized_name": name, "name": name}
            if need == "optional":
                item["shape"] = _OPTIONAL
            item["type"] = kind
            if not _is_socket(kind):
                item["widget"] = {"name": name}
            value, item["link"] = node.inputs.get(name), None
            if isinstance(value, tuple):
                item["link"] = len(links) + 1
                links.append([len(links) + 1, value[0], value[1], node.id, len(inputs), kind])
            inputs.append(item)
        properties: dict[str, Any] = {"Node name for S&R": node.type}
        if node.files:
            properties["models"] = [_embedded(file) for file in node.files]
        x, y, width = node.place
        drawn: dict[str, Any] = {
            "id": node.id,
            "type": node.type,
            "pos": [x, y],
            "size": [width, self._height(node.type)],
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": inputs,
            "outputs": [
                {"localized_name": name, "name": name, "type": kind, "links": None}
                for name, kind in self._outputs(node)
            ],
            "properties": properties,
            "widgets_values": list(_values(node, widgets)),
        }
        return {**drawn, "title": node.title} if node.title else drawn

    def _note(self) -> dict[str, Any]:
        return {
            "id": 1,
            "type": "MarkdownNote",
            "pos": [40, 90],
            "size": [380, 290],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": "Start here",
            "properties": {},
            "widgets_values": [self.template.note],
            "color": "#432",
            "bgcolor": "#653",
        }

    def _app(self) -> dict[str, Any]:
        """App mode: what is asked there, and the output node whose result is shown."""
        request = next(node for node in self.nodes if node.type == self.template.node)
        images = [[node.id, "image"] for node in self.nodes if node.type == "LoadImage"]
        (result,) = (node.id for node in self.nodes if node.type == "SaveVideo")
        text = "storyboard" if request.type == "WanDuetShots" else "prompt"
        return {"inputs": [[request.id, text], *images, [request.id, "seed"]], "outputs": [result]}


def _values(node: _Node, widgets: list[list[Any]]) -> Iterator[Any]:
    """The values of all widgets in order; "fixed" is what the browser does with a seed after a run."""
    for name, _, default, _ in widgets:
        value = node.inputs.get(name, default)
        yield default if isinstance(value, tuple) else value
        if name == "seed":
            yield "fixed"


def _is_socket(kind: str) -> bool:
    return not _SOCKETS.isdisjoint(kind.split(",")) or "INTERP" in kind


def _embedded(file: ModelFile) -> dict[str, str]:
    """As ComfyUI's dialog of missing models reads it."""
    return {
        "name": file.name,
        "url": file.url,
        "directory": file.folder,
        "hash": file.sha256,
        "hash_type": "SHA256",
    }


def _display_name(node: str) -> str:
    from wan_duet.nodes.tasks import REQUEST_NODES

    names = {request.node_id: request.display_name for request in REQUEST_NODES}
    others = {
        "WanDuetLoadModel": "Wan Duet Load Model",
        "WanDuetRunLocal": "Wan Duet Run Local",
        "WanDuetCheck": "Wan Duet Check",
        "WanDuetLora": "Wan Duet LoRA",
        "WanDuetShots": "Wan Duet Shots",
        "WanDuetFromComfy": "Wan Duet Model from ComfyUI",
    }
    return {**names, **others}[node]
