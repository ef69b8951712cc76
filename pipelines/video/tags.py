"""Names the tags in a finished file, and makes them storable.

ComfyUI restores a graph from `prompt` and `workflow` when a file is dropped on it. `wan_duet` is our receipt.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import MediaError

__all__ = ["PROMPT", "RECEIPT", "WORKFLOW", "content_tags", "storable_tags", "with_own_names"]

PROMPT = "prompt"
WORKFLOW = "workflow"
RECEIPT = "wan_duet"


def storable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of tags that every container can hold.

    Raises MediaError for a tag without a name, or with NUL or half of a surrogate pair.
    """
    for key, value in tags.items():
        text = key + value
        if not key or "=" in key or "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            raise MediaError(
                f"the tag {key!r} cannot be written into a file; a name without '=', and text without NUL "
                "characters and lone surrogates, works"
            )
    return dict(tags)


def with_own_names(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags with our names in lower case. Matroska and WebM store names in capitals."""
    ours = {name.upper(): name for name in (PROMPT, WORKFLOW, RECEIPT)}
    return {ours.get(name, name): text for name, text in tags.items()}


_OF_THE_MUXER = {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration"}


def content_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags about the video, without those about the file that it was read from."""
    return {name: text for name, text in tags.items() if name.lower() not in _OF_THE_MUXER}
