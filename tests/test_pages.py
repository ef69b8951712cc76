"""Promises of the pages: links, files, commands and line counts that they state are true."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "web" / "docs").glob("*.md"),
        *(ROOT / "pipelines").rglob("*.md"),
    ]
)
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{names(page)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{names(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_file_of_ours_that_a_page_names_exists(page: Path) -> None:
    """A name with a folder, such as `sampling/loop.py`, from the repository root or from `pipelines`."""
    for code in _CODE.findall(page.read_text(encoding="utf-8")):
        for named in re.findall(r"(?<![\w/.~$-])[\w.-]+(?:/[\w.-]+)+\.(?:py|json)\b", code):
            if named.startswith("user/"):  # a folder of ComfyUI
                continue
            assert (ROOT / named).exists() or (ROOT / "pipelines" / named).exists(), f"{names(page)}: {named}"


def test_every_module_that_a_page_starts_exists() -> None:
    for page in PAGES:
        for module in re.findall(
            r"python3? -m (tools|tests|wan_duet)\.([\w.]+)", page.read_text(encoding="utf-8")
        ):
            top = ROOT if module[0] == "wan_duet" else ROOT / module[0]
            assert top.joinpath(*module[1].split(".")).with_suffix(".py").is_file(), (
                f"{names(page)}: {module}"
            )


def test_the_table_of_rooms_says_what_each_room_says_of_itself() -> None:
    rooms = [
        *(ROOT / "pipelines").glob("*/__init__.py"),
        ROOT / "pipelines" / "weights" / "lora" / "__init__.py",
    ]
    assert len(rooms) > 15
    for file in rooms:
        said = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        room = file.parent.relative_to(ROOT).as_posix()
        assert f"| `{room}` | {said} |" in ARCHITECTURE, f"{room}: {said}"


def test_the_heart_is_as_long_as_the_page_says() -> None:
    """To a tenth, so that the page need not follow every line."""
    stated = re.findall(r"^\d+\. `pipelines/([\w/]+\.py)` \((\d+) lines\)", ARCHITECTURE, re.MULTILINE)
    assert len(stated) > 5
    lengths = [
        len((ROOT / "pipelines" / name).read_text(encoding="utf-8").splitlines()) for name, _ in stated
    ]
    for (name, lines), length in zip(stated, lengths, strict=True):
        assert length == pytest.approx(int(lines), rel=0.1), f"{name} has {length} lines"
    assert sum(lengths) <= 1160
