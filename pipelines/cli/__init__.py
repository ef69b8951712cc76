"""Runs the commands of `wan-duet`, and the demo of run.py."""

from __future__ import annotations

from .commands import main

__all__ = ["main"]
