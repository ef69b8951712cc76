"""Which numbers a run takes: families, sizes, sigma grids, the plan. numpy only."""

from __future__ import annotations

from .families import FAMILIES, Family, default_family
from .plan import Plan, describe, make_plan
from .sigmas import GRIDS, SigmaGrid

__all__ = ["FAMILIES", "GRIDS", "Family", "Plan", "SigmaGrid", "default_family", "describe", "make_plan"]
