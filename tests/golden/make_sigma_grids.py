"""Write sigma_grids.json with the schedulers of the official Wan 2.2 code. Needs torch and diffusers.

python tests/golden/make_sigma_grids.py --wan22 PATH_OF_A_CHECKOUT
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import torch

# (steps, shift): our default, both official A14B defaults, the text-to-image default, short and long runs.
PAIRS = [(27, 5.0), (40, 12.0), (40, 5.0), (27, 2.0), (2, 1.0), (4, 8.0), (50, 3.0)]
NOTE = (
    "Made by make_sigma_grids.py with the official code (github.com/Wan-Video/Wan2.2 at 42bf4cf, wan/utils/"
    "fm_solvers_unipc.py and fm_solvers.py), set up as in wan/text2video.py. Sigmas are float32 values; "
    "timesteps are what the model is given (int64)."
)


def load(wan22: Path, name: str) -> ModuleType:
    """One file of the checkout by itself: its package would import the whole model."""
    spec = importlib.util.spec_from_file_location(name, wan22 / "wan" / "utils" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_grids(wan22: Path, pairs: list[tuple[int, float]]) -> list[dict]:
    unipc, dpm = load(wan22, "fm_solvers_unipc"), load(wan22, "fm_solvers")
    grids = []
    for steps, shift in pairs:
        scheduler = unipc.FlowUniPCMultistepScheduler(1000, shift=1, use_dynamic_shifting=False)
        scheduler.set_timesteps(steps, shift=shift)
        grids.append(as_entry("unipc", steps, shift, scheduler.sigmas, scheduler.timesteps))
        scheduler = dpm.FlowDPMSolverMultistepScheduler(1000, shift=1, use_dynamic_shifting=False)
        scheduler.set_timesteps(sigmas=dpm.get_sampling_sigmas(steps, shift))
        grids.append(as_entry("dpm++", steps, shift, scheduler.sigmas, scheduler.timesteps))
    return grids


def as_entry(name: str, steps: int, shift: float, sigmas: torch.Tensor, timesteps: torch.Tensor) -> dict:
    assert sigmas.dtype == torch.float32
    assert timesteps.dtype == torch.int64
    return {
        "grid": name,
        "steps": steps,
        "shift": shift,
        "sigmas": sigmas.tolist(),
        "timesteps": timesteps.tolist(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wan22", type=Path, required=True)
    entries = official_grids(parser.parse_args().wan22, PAIRS)
    lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
    text = f'{{\n "_note": {json.dumps(NOTE)},\n "grids": [\n{lines}\n ]\n}}\n'
    Path(__file__).with_name("sigma_grids.json").write_text(text, encoding="utf-8")
