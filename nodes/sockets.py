"""Defines the sockets that only this pack has."""

from __future__ import annotations

from .comfy_interface import io

__all__ = ["WanModelSocket", "WanRequestSocket"]

WanModelSocket = io.Custom("WAN_MODEL")  # carries pipelines.loading.wan_model.WanModel
WanRequestSocket = io.Custom("WAN_REQUEST")  # carries pipelines.request.RequestWithMedia
