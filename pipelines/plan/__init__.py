"""Computes every number of a run before loading: families, sizes, sigma grids. Needs numpy only."""

from __future__ import annotations

from .families import FAMILIES, Family, default_family
from .plan import Plan, make_plan
from .plan_text import describe
from .sigmas import GRIDS, SigmaGrid

__all__ = ["FAMILIES", "GRIDS", "Family", "Plan", "SigmaGrid", "default_family", "describe", "make_plan"]
