"""The picture of a workflow that cannot run here shows all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageColor

from tools.graph_picture import graph_picture

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SIZE = (384, 256)


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """Two nodes in opposite corners and the link between them."""
    nodes = [
        {"id": 1, "type": "A", "pos": [0, 0], "size": [300, 200], "bgcolor": "#ff0000", "color": "#ff0000"},
        {
            "id": 2,
            "type": "B",
            "pos": [900, 500],
            "size": [300, 200],
            "bgcolor": "#00ff00",
            "color": "#00ff00",
        },
    ]
    file, twin = tmp_path / "graph.json", tmp_path / "api" / "graph.json"
    file.write_text(json.dumps({"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]]}))
    twin.parent.mkdir()
    twin.write_text(json.dumps({name: {"_meta": {"title": name}} for name in ("1", "2")}))
    return file


def places(pixels: np.ndarray, colour: str) -> np.ndarray:
    """(N, 2): x and y of the pixels that are near this colour."""
    near = np.abs(pixels.astype(int) - ImageColor.getrgb(colour)).max(axis=2) < 40
    return np.argwhere(near)[:, ::-1]


def test_every_node_and_link_is_in_its_place(workflow: Path) -> None:
    picture = graph_picture(workflow, SIZE)
    pixels = np.asarray(picture)
    assert picture.size == SIZE
    first, second, link = (places(pixels, colour) for colour in ("#ff0000", "#00ff00", "#64b5f6"))
    middle = np.array(SIZE) / 2
    assert (first.max(axis=0) < middle).all()
    assert (second.min(axis=0) > middle).all()
    assert first[:, 0].max() - 2 <= link[:, 0].min()
    assert link[:, 0].max() <= second[:, 0].min() + 2
    frame = np.concatenate(
        [pixels[:8].reshape(-1, 3), pixels[-8:].reshape(-1, 3), pixels[:, :8].reshape(-1, 3)]
    )
    assert len(np.unique(frame, axis=0)) == 1  # nothing lies over the edge


@pytest.mark.parametrize("name", sorted(file.stem for file in WORKFLOWS.glob("*.json")))
def test_every_shipped_workflow_can_be_drawn(name: str) -> None:
    pixels = np.asarray(graph_picture(WORKFLOWS / f"{name}.json", SIZE))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
