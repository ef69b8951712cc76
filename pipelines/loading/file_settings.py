"""The user's settings for reading files.

    {"open_pickles": true}

`open_pickles`: read the VAE and UMT5 of the official repositories from `.pth` files. The default is off.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ModelError

__all__ = ["opens_pickles"]

_FILE = "files.json"
_KEY = "open_pickles"


def opens_pickles(folder: Path) -> bool:
    """Return the setting of `files.json` in `folder`, False where there is none.

    Raises ModelError that names the wrong entry: a switch that is misread is none.
    """
    file = folder / _FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; correct or delete it") from error
    if (
        not isinstance(content, dict)
        or set(content) - {_KEY}
        or not isinstance(content.get(_KEY, False), bool)
    ):
        raise ModelError(f'{file}: found {str(content)[:100]}; give {{"{_KEY}": true}} or false')
    return bool(content.get(_KEY, False))
