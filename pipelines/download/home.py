"""Where downloads are kept when nobody names a folder: where programs of this system keep their data."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["data_folder"]


def data_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """platform: as sys.platform. A relative path in the environment is ignored, as the XDG rules say."""
    if platform == "win32":
        given, usual = environ.get("LOCALAPPDATA", ""), Path.home() / "AppData" / "Local"
    elif platform == "darwin":
        given, usual = "", Path.home() / "Library" / "Application Support"
    else:
        given, usual = environ.get("XDG_DATA_HOME", ""), Path.home() / ".local" / "share"
    return (Path(given) if Path(given).is_absolute() else usual) / "wan-duet"
