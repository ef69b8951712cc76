"""Which ComfyUIs run rows of batches: comfy.json beside the keys.

{"addresses": ["http://10.0.0.5:8188"]}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import RequestError

__all__ = ["comfy_addresses", "require_address"]


def comfy_addresses(folder: Path) -> list[str]:
    """Return the addresses of the file in `folder`. Raises RequestError without any, or for a wrong one."""
    file = folder / "comfy.json"
    fix = f'give --comfy URL,URL, or write {{"addresses": ["http://127.0.0.1:8188"]}} into {file}'
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError.of("--comfy", "not given", fix) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError.of(str(file), f"cannot be read: {error}", fix) from None
    found = content.get("addresses") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found:
        raise RequestError.of(str(file), "has no addresses", fix)
    return [require_address(url, f"{file}: addresses") for url in dict.fromkeys(map(str, found))]


def require_address(url: str, where: str) -> str:
    """Return the address of a ComfyUI without a slash at its end. Raises RequestError on `where`."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        raise RequestError.of(where, f"got {url!r}", "give addresses such as http://127.0.0.1:8188")
    return url.rstrip("/")
