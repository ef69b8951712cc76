"""The action *Get files*: which weight files a workflow selects are missing, and their download.

    GET  /wan_duet/models/kinds                -> [{"kind", "size", "files": [names]}, ...]
    POST /wan_duet/models/look {"files": [names]} -> {"files": [{"name", "folder", "state", "bytes",
                                                     "left_bytes", "page"}, ...], "problem": text or null}
    POST /wan_duet/models/get  {"files": [names]} -> the state of the download
    POST /wan_duet/models/stop {}                 -> the same
    GET  /wan_duet/models/progress                -> the same

Names that are not in the list of published files are left out: a page can ask for no other address. What goes
wrong is answered with 400 and {"error": what the user may do}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from ..pipelines.errors import DownloadError
from ..pipelines.model_files.background import BackgroundDownload
from ..pipelines.model_files.catalogue import read_catalogue
from ..pipelines.model_files.inventory import Folders, Found, find_files, require_room, to_fetch
from ..pipelines.progress import Progress
from ..pipelines.request import KINDS
from .own_page import answer, read_body, refusal

__all__ = ["add_model_routes"]

_INSTEAD = "files are downloaded from ComfyUI's own page, or by wan-duet models get"
_LONGEST = 65_536  # bytes of a body: the names of all files of a workflow


def add_model_routes(
    routes: web.RouteTableDef, own_list: Callable[[], Path], folders: Callable[[], Folders]
) -> None:
    """Add the routes. own_list: folder of the user's list. folders: where ComfyUI has files."""

    def get(found: Sequence[Found], progress: Progress) -> Sequence[Path]:
        from ..pipelines.model_files.get_files import get_files, web_of

        return get_files(found, web_of(read_catalogue(own_list())), progress)

    download = BackgroundDownload(get)

    async def find(request: web.Request) -> Callable[[], list[Found]]:
        names = (await read_body(request, _INSTEAD, "files", longest=_LONGEST))["files"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise refusal(web.HTTPBadRequest, "files: give a list of names")
        return lambda: find_files(read_catalogue(own_list()).named(names), folders())

    @routes.get("/wan_duet/models/kinds")
    async def kinds(_: web.Request) -> web.Response:
        return await answer(lambda: _kinds(own_list()))

    @routes.post("/wan_duet/models/look")
    async def look(request: web.Request) -> web.Response:
        found = await find(request)
        return await answer(lambda: _described(found()))

    @routes.post("/wan_duet/models/get")
    async def start(request: web.Request) -> web.Response:
        found = await find(request)

        def begin() -> object:
            wanted = found()
            require_room(to_fetch(wanted))
            download.start(wanted)
            return download.state()

        return await answer(begin)

    @routes.post("/wan_duet/models/stop")
    async def stop(request: web.Request) -> web.Response:
        await read_body(request, _INSTEAD)
        download.stop()
        return await answer(download.state)

    @routes.get("/wan_duet/models/progress")
    async def progress(_: web.Request) -> web.Response:
        return await answer(download.state)


def _kinds(own_list: Path) -> list[dict[str, Any]]:
    catalogue = read_catalogue(own_list)
    return [
        {"kind": kind, "size": size, "files": [file.name for file in files.files]}
        for kind in KINDS
        for size, files in catalogue.sets(kind).items()
    ]


def _described(found: Sequence[Found]) -> dict[str, Any]:
    files = [
        {
            "name": item.file.name,
            "folder": item.file.folder,
            "state": item.state,
            "bytes": item.file.size_bytes,
            "left_bytes": item.left_bytes,
            "page": item.file.page,
        }
        for item in found
    ]
    try:
        require_room(to_fetch(found))
    except DownloadError as error:
        return {"files": files, "problem": str(error)}
    return {"files": files, "problem": None}
