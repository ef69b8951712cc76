"""Names the patches on a MODEL, for the receipt and for checks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["patch_names", "without_effect"]

# Entries of `model_options` and `transformer_options` that every MODEL has, or that only carry the others.
_ALWAYS = {"transformer_options", "wrappers", "callbacks", "patches", "patches_replace"}


def patch_names(model: Any) -> tuple[str, ...]:
    """Return the names, sorted and unique, such as "wrapper diffusion_model: easycache"."""
    return tuple(sorted(set(_names(model))))


def without_effect(model: Any) -> list[str]:
    """Describe the patches that the network of `model` never uses. ComfyUI ignores them silently."""
    source = inspect.getsource(sys.modules[type(model.model.diffusion_model).__module__])
    inner = model.model_options.get("transformer_options", {})
    dead = {
        _named(function)
        for place, functions in inner.get("patches", {}).items()
        if f'"{place}"' not in source
        for function in functions
    }
    # It replaces attn1 of a UNet's middle block during one more call.
    guidance = model.model_options.get("sampler_post_cfg_function", ())
    dead |= {name for name in map(_named, guidance) if name.startswith("PerturbedAttentionGuidance.")}
    return [
        f"{name}: has no effect on a Wan model, in ComfyUI's own samplers either; remove that node"
        for name in sorted(dead)
    ]


def _names(model: Any) -> Iterator[str]:
    if model.patches:
        yield f"weights: {len(model.patches)} tensors"
    if model.hook_patches:
        yield "weights with hooks"
    yield from (f"object {name}: {_named(patch)}" for name, patch in model.object_patches.items())
    yield from (f"injection {name}" for name in getattr(model, "injections", {}))
    yield from (f"attachment {name}" for name in getattr(model, "attachments", {}))
    yield from (f"additional model {name}" for name in getattr(model, "additional_models", {}))
    for kind in ("wrappers", "callbacks"):
        yield from _by_key(kind, getattr(model, kind, {}))
    options = model.model_options
    yield from _entries("", options)
    inner = options.get("transformer_options", {})
    yield from _entries("transformer ", inner)
    for kind in ("wrappers", "callbacks"):
        yield from _by_key(kind, inner.get(kind, {}))
    for place, functions in inner.get("patches", {}).items():
        yield from (f"patch {place}: {_named(function)}" for function in functions)
    for place, functions in inner.get("patches_replace", {}).items():
        yield from (f"replacement {place}: {_named(function)}" for function in functions.values())


def _entries(where: str, options: dict[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        if key not in _ALWAYS and value is not None:
            functions = value if isinstance(value, list | tuple) else [value]
            yield from (f"{where}{key}: {_named(function)}" for function in functions)


def _by_key(kind: str, by_type: dict[str, dict[str, Iterable[Callable[..., Any]]]]) -> Iterator[str]:
    for name, by_key in by_type.items():
        for key, functions in by_key.items():
            yield from (
                f"{kind.removesuffix('s')} {name}: {key or _named(function)}" for function in functions
            )


def _named(value: Any) -> str:
    """Return the name of a patch: its nested name shows which node made it."""
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return str(name).replace(".<locals>", "")
