"""What each quantised format costs in exactness: of random weights, and of what the embedded model draws.

    python bench/formats.py [--clips 16] [--json FILE] [--only FORMAT ...]
    python bench/formats.py --loras FILE
    python bench/formats.py --table FILE

The blocks of both experts of the embedded model are stored in each format and loaded from that file. The
same unseen prompts are drawn from the same noise as from the plain weights, decoded (exact) and computed as
stored (`precision: stored`, by the reference arithmetic). The detector of the tests counts the clips whose
colour, background, motion and shape are the prompt's. All between the products is float32 on the CPU.

--loras adds to results how it is with the embedded LoRA that outlines what is drawn, on four clips.
--table prints the table of docs/formats.md from results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "embedded", "weights"))]

import quantised_files as files  # noqa: E402
import tiny_files as tiny  # noqa: E402
from drawing import PROPERTIES, draw, unseen_prompts  # noqa: E402

from wan_duet.pipelines.embedded.detector import look_at  # noqa: E402
from wan_duet.pipelines.embedded.toy_model import embedded_loras  # noqa: E402
from wan_duet.pipelines.loading.identify import read_part  # noqa: E402
from wan_duet.pipelines.loading.wan_model import WanModel, load_model  # noqa: E402
from wan_duet.pipelines.networks.stored_linear import StoredLinear  # noqa: E402
from wan_duet.pipelines.weights.checkpoint import read_checkpoint  # noqa: E402
from wan_duet.pipelines.weights.recipe import Recipe  # noqa: E402
from wan_duet.pipelines.weights.stored_layers import computing_as_stored  # noqa: E402
from wan_duet.pipelines.weights.stored_tensors import Files  # noqa: E402

SEED = 5  # of the prompts, as in the tests
_INK = 0.1  # from which share of dark pixels a shape is outlined
# One of each kind: the others differ in names alone.
KINDS = (
    *("fp8 per row", "fp8 in squares", "fp8 in blocks of a row with a factor", "int8 per row", "quanto"),
    *("int8_tensorwise", "int8_tensorwise rotated by 256", "mxfp8", "nvfp4"),
    *("convrot_w4a4 by 256", "asym_w4a8_int8 by 256"),
)


def random_weights(kind: str) -> dict[str, float]:
    """The error of a Gaussian matrix, and how many bits each of its numbers takes.

    product: the error of computing as stored with Gaussian tokens, beside the decoded matrix; None where it
    is always decoded.
    """
    weight = files.matrices([(1024, 1024)])["layer0.weight"]
    beside, meant = files.FORMATS[kind](weight)
    stored = sum(tensor.nbytes for name, tensor in beside.items() if name != "comfy_quant")
    return {
        "weights": float((meant - weight).norm() / weight.norm()),
        "bits": 8 * stored / weight.numel(),
        **product_error(beside, meant),
    }


@torch.inference_mode()
def product_error(beside: dict[str, Tensor], meant: Tensor) -> dict[str, Any]:
    """How one layer computes, and its error relative to the decoded one."""
    name = "blocks.0.layer"
    with tempfile.TemporaryDirectory() as made:
        file = tiny.save(
            Path(made) / "m.safetensors", {f"{name}.{part}": held for part, held in beside.items()}
        )
        plain = Recipe.of({}, read_checkpoint(file).tensors)
        recipe, (use,) = computing_as_stored(plain, torch.device("cpu"))
        if use.way is None:
            return {"format": use.format, "product": None, "reason": use.reason}
        layer = StoredLinear(recipe.stored[name], None)
        with Files(torch.device("cpu")) as opened:
            for part, tensor in recipe.tensors.items():
                read = torch.nn.Parameter(tensor.compute(opened), requires_grad=False)
                layer.register_parameter(part.removeprefix(f"{name}."), read)
        tokens = torch.randn(256, meant.shape[1], generator=torch.Generator().manual_seed(1))
        exact = tokens.double() @ meant.double().T
        error = float((layer(tokens).double() - exact).norm() / exact.norm())
    return {"format": use.format, "product": error}


def stored_as(model: WanModel, kind: str, folder: Path) -> WanModel:
    """The model with both experts loaded from files of this format."""
    experts = {}
    for name, recipe in model.experts.items():
        held, _, _ = files.quantised(tensors_of(recipe), kind, tiny.is_linear)
        made = read_part(tiny.save(folder / f"{name}.safetensors", held), "transformer", name)
        experts[name] = replace(recipe, tensors=made.tensors)
    return replace(model, experts=MappingProxyType(experts))


def tensors_of(recipe: Recipe) -> dict[str, Tensor]:
    with Files(torch.device("cpu")) as opened:
        return {name: tensor.compute(opened).float() for name, tensor in recipe.tensors.items()}


def scores(clips: list[np.ndarray], scenes: list[Any]) -> dict[str, int]:
    seen = [look_at(clip) for clip in clips]
    return {
        name: sum(getattr(a, name) == getattr(b, name) for a, b in zip(scenes, seen, strict=True))
        for name in PROPERTIES
    }


def measure(count: int, kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not count:
        return {kind: random_weights(kind) for kind in kinds}
    pairs = unseen_prompts(count, SEED)
    scenes, prompts = [scene for scene, _ in pairs], [prompt for _, prompt in pairs]
    toy = load_model("toy")
    plain = draw(toy, prompts)
    found: dict[str, dict[str, Any]] = {
        "plain": {"clips": count, "bits": 16, "weights": 0.0, "pixels": 0.0, **scores(plain, scenes)}
    }
    for kind in kinds:
        of_layer = random_weights(kind)
        with tempfile.TemporaryDirectory() as made:
            model = stored_as(toy, kind, Path(made))
            exact = draw(model, prompts)
            row = {"clips": count, **of_layer, "pixels": apart(exact, plain), **scores(exact, scenes)}
            if of_layer["product"] is not None:
                clips = draw(replace(model, precision="stored"), prompts)
                row["stored"] = {"pixels": apart(clips, exact), **scores(clips, scenes)}
        found[kind] = row
        sys.stderr.write(f"{kind}: {json.dumps(row)}\n")
    return found


def with_lora(kind: str) -> dict[str, Any]:
    """How many of four clips the embedded LoRA outlines, decoded and stored, and how far they differ."""
    prompts, lora = [prompt for _, prompt in unseen_prompts(4, SEED)], embedded_loras()["toy/outlined"]
    with tempfile.TemporaryDirectory() as made:
        plain = load_model("toy")
        model = plain if kind.startswith("plain") else stored_as(plain, kind, Path(made))
        model = model.with_lora(lora, 1.0, "low")
        exact = draw(model, prompts)
        stored = draw(replace(model, precision="stored"), prompts)
    outlined = [sum((look_at(clip).ink or 0) > _INK for clip in clips) for clips in (exact, stored)]
    return {"outlined": outlined[0], "stored": {"outlined": outlined[1], "pixels": apart(stored, exact)}}


def apart(clips: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """The mean difference of two lists of clips, as a share of white."""
    return float(
        np.mean([np.abs(a.astype(float) - b).mean() / 255 for a, b in zip(clips, others, strict=True)])
    )


def table(results: dict[str, Any]) -> str:
    """The rows of docs/formats.md: a format, how it computes, its errors, and the scores before and after."""
    names = ", ".join(PROPERTIES)
    lines = [
        f"| format | on stored numbers | product error | clips | differ by | {names}: exact | stored "
        "| with a LoRA: outlined, exact | stored | differ by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, row in results["formats"].items():
        product, stored = row.get("product"), row.get("stored", {})
        how = row["format"] if product is not None else f"no: {row.get('reason', 'it is not quantised')}"
        cells = [
            "" if product is None else f"{100 * product:.2g} %",
            str(row.get("clips", "")),
            f"{100 * stored['pixels']:.2g} %" if stored else "",
            _score(row),
            _score(stored) if product is not None else "",
            *_lora(row.get("lora"), product is not None),
        ]
        lines.append(f"| {kind} | {how} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _lora(row: dict[str, Any] | None, computes: bool) -> list[str]:
    if row is None:
        return ["", "", ""]
    stored = row["stored"]
    both = [str(stored["outlined"]), f"{100 * stored['pixels']:.2g} %"] if computes else ["", ""]
    return [f"{row['outlined']} of 4", *both]


def _score(row: dict[str, Any]) -> str:
    return ", ".join(str(row[name]) for name in PROPERTIES) if PROPERTIES[0] in row else "not measured"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16, help="how many to draw; 0: random weights alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, metavar="FORMAT")
    parser.add_argument("--loras", type=Path, metavar="FILE", help="add the rows with a LoRA to results")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of results; measure none")
    options = parser.parse_args()
    if options.table is not None:
        sys.stdout.write(table(json.loads(options.table.read_text())) + "\n")
        return
    torch.set_num_threads(1)
    if options.loras is not None:
        results = json.loads(options.loras.read_text())
        for kind, row in results["formats"].items():
            if kind != "plain":  # "plain, the four clips" is of these prompts
                row["lora"] = with_lora(kind)
        options.loras.write_text(json.dumps(results, indent=1) + "\n")
        return
    text = json.dumps({"formats": measure(options.clips, options.only)}, indent=1)
    if options.json is not None:
        options.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
