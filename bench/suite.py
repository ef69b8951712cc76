"""The ratios and counts that say how near a run is to what its arithmetic takes, each against its gate.

    python bench/suite.py [--only C1 ...] [--pairs 12] [-o OUT.json] [--table docs/performance.md]

Everything here runs on a CPU. Counts are exact: full-size networks of A14B and of the VAEs without numbers,
whose memory traffic a dispatch mode adds up (`traffic`). Ratios are of processor time (`pairs`), of random
experts that are small and in the real layout (`small_model`). A comparison with ComfyUI needs one in
$COMFYUI_PATH or ~/ComfyUI. Seconds of a GPU are for `gpu_suite.py`.

--table writes the table between the two markers of that page. Exit code 1 when a gate is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import diffusers
import small_model
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from memory_use import in_a_child, watched
from pairs import Ratio, ratio_of
from safetensors import safe_open
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from traffic import Traffic
from transformers import UMT5Config, UMT5EncoderModel

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.kernels.fused import triton_works
from wan_duet.pipelines.kernels.names import Kernels
from wan_duet.pipelines.kernels.operations import kitchen_operations
from wan_duet.pipelines.media.vae_stream import new_cache
from wan_duet.pipelines.models.block import modulation_rows
from wan_duet.pipelines.models.expert import expert_dtypes, velocity_of
from wan_duet.pipelines.models.network import use_own_forward
from wan_duet.pipelines.models.own_vae import use_own_vae
from wan_duet.pipelines.models.wan_model import WanModel
from wan_duet.pipelines.plan.flops import forward_flops, size_of, tokens_of
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.solvers import SOLVERS
from wan_duet.pipelines.sampling.step_cache import REGULAR, BlockCache, StepCache

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "models"))
from experts import recipe_of, write_experts  # noqa: E402
from virtual_clock import LAYERS, stall  # noqa: E402

MARKERS = ("<!-- suite: begin -->", "<!-- suite: end -->")


@dataclass(frozen=True)
class Row:
    """One line of the table. passed: None where there is nothing to compare with."""

    gate: str
    what: str
    found: str
    goal: str
    stock: str
    passed: bool | None


@dataclass(frozen=True)
class Setting:
    model: WanModel
    folder: Path
    pairs: int


def at_most(gate: str, what: str, value: float, goal: float, stock: str = "", text: str | None = None) -> Row:
    return Row(gate, what, text or f"{value:.3g}", f"at most {goal:g}", stock, value <= goal)


def of_ratio(gate: str, what: str, ratio: Ratio, goal: float, stock: str = "") -> Row:
    """Missed only when all of the middle half lies on the wrong side."""
    passed = ratio.median <= goal or ratio.low <= goal
    return Row(gate, what, ratio.text(), f"at most {goal:g}", stock, passed)


class Counted:
    """Hands out engines that answer at once, and counts what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def use(self, expert: str) -> Any:
        return _Answer(self.asked, expert)


@dataclass
class _Answer:
    asked: list[str]
    expert: str

    def predict(self, latents: Tensor, timestep: float, condition: object) -> Tensor:
        del timestep, condition
        self.asked.append(self.expert)
        return latents * 0.1


def loop(at: Setting) -> list[Row]:
    experts, schedule = small_model.Loaded(at.model), small_model.schedule()
    noise, prompts = small_model.inputs()

    def ours() -> None:
        small_model.sampled(experts, schedule, "unipc")

    def bare() -> None:
        for name, timestep in zip(schedule.experts, schedule.timesteps, strict=True):
            for condition in (prompts.positive, prompts.negative):
                experts.use(name).predict(noise, timestep, condition)

    return [of_ratio("C1", "denoise loop / the forwards in it", ratio_of(ours, bare, at.pairs), 1.02)]


def against_diffusers(at: Setting) -> list[Row]:
    pipe = small_model.pipeline(at.folder)
    noise, prompts = small_model.inputs()
    assert prompts.negative is not None  # noqa: S101
    _, _, frames, rows, columns = noise.shape

    def theirs() -> Tensor:
        made: Tensor = pipe(
            prompt_embeds=prompts.positive.text,
            negative_prompt_embeds=prompts.negative.text,  # type: ignore[union-attr]
            latents=noise.clone(),
            height=rows * 8,
            width=columns * 8,
            num_frames=frames * 4 - 3,
            num_inference_steps=small_model.STEPS,
            guidance_scale=3.5,
            guidance_scale_2=4.0,
            output_type="latent",
        ).frames
        return made

    experts = small_model.Loaded(at.model)

    def ours() -> Tensor:
        return small_model.sampled(experts, small_model.schedule(), "unipc")

    return [of_ratio("C2", "sampling / diffusers' WanPipeline", ratio_of(ours, theirs, at.pairs), 1.0)]


def in_comfyui(*arguments: str) -> Any:
    """What its interpreter prints as the last line, as JSON, with this package and bench importable; None
    where there is no ComfyUI.
    """
    home = Path(os.environ.get("COMFYUI_PATH", "~/ComfyUI")).expanduser()
    python = Path(os.environ.get("COMFYUI_PYTHON", home / "venv" / "bin" / "python"))
    if not (home / "main.py").is_file() or not python.exists():
        return None
    import wan_duet

    package = Path(wan_duet.__file__).resolve().parent
    with tempfile.TemporaryDirectory() as linked:
        (Path(linked) / "wan_duet").symlink_to(package)
        environment = {**os.environ, "PYTHONPATH": f"{linked}{os.pathsep}{ROOT / 'bench'}"}
        done = subprocess.run(
            [str(python), *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed in ComfyUI:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def against_comfyui(at: Setting) -> list[Row]:
    names = {
        "C3": "sampling / ComfyUI's two stages",
        "C4": "one forward, distance from ComfyUI's",
        "C5": "latents of both stages, distance from ComfyUI's",
    }
    script = ROOT / "bench" / "comfyui_pair.py"
    found = in_comfyui(str(script), str(at.folder), "--pairs", str(at.pairs))
    if found is None:
        return [Row(gate, what, "no ComfyUI here", "", "", None) for gate, what in names.items()]
    return [
        of_ratio("C3", names["C3"], Ratio(*found["ratio"]), 1.0),
        at_most("C4", names["C4"], found["forward"], 1e-5, text=f"{found['forward']:.1e}"),
        at_most("C5", names["C5"], found["latents"], 1e-5, text=f"{found['latents']:.1e}"),
    ]


def forwards(at: Setting) -> list[Row]:
    del at
    noise, prompts = small_model.inputs()
    schedule, rows = small_model.schedule(), []
    for high, low in ((3.5, 3.5), (3.5, 1.0), (1.0, 3.5), (1.0, 1.0)):
        counted, scales = Counted(), {"high": high, "low": low}
        denoise(noise, schedule, SOLVERS["euler"](schedule.sigmas), counted, prompts, scales, Silent())
        needed = sum(1 if scales[name] == 1 else 2 for name in schedule.experts)
        made = len(counted.asked)
        what = f"forwards made / needed, guidance {high:g} and {low:g}"
        rows.append(Row("C6", what, f"{made} / {needed}", "equal", "", made == needed))
    return rows


def block_traffic(kernels: Kernels | None, chunk_tokens: int = 0) -> tuple[Traffic, int]:
    """One block of A14B at 832x480 and 81 frames in bf16, and the bytes of its hidden state."""
    rule, tokens = expert_dtypes(torch.bfloat16), 32760
    with torch.device("meta"):
        network = WanTransformer3DModel(num_layers=1).eval()
        hidden = torch.empty(1, tokens, 5120, dtype=torch.bfloat16)
        text, temb = (torch.empty(1, count, 5120, dtype=torch.bfloat16) for count in (512, 6))
        angles = torch.empty(1, tokens, 1, 128)
        latents = torch.empty(1, 16, 21, 60, 104)
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(rule(name))
    rotary: Any = (angles, angles)
    if kernels is not None:
        use_own_forward(network, FloatChoices(kernels=kernels, chunk_tokens=chunk_tokens))
        network.rope.to("meta")
        rotary, temb = network.rope(latents), modulation_rows(temb)
    with torch.inference_mode(), Traffic() as traffic:
        network.blocks[0](hidden, text, temb, rotary)
    return traffic, hidden.nbytes


def block(at: Setting) -> list[Row]:
    del at
    stock, unit = block_traffic(None)
    passes, count = f"{stock.element_wise / unit:.1f}", str(stock.kernel_count)
    rows = []
    limits: list[tuple[Kernels, str, float]] = [
        ("plain", "plain torch", 56),
        ("kitchen", "comfy-kitchen's rope", 34),
        ("triton", "triton", 24),
    ]
    for kernels, name, most in limits:
        what = f"passes of a hidden state per block, {name}"
        found = counted(kernels) or elsewhere(kernels)
        if found is None:
            rows += [Row("C7", what, "not installed here", f"at most {most:g}", passes, None)]
            continue
        rows += [
            at_most("C7", what, found[0], most, passes),
            at_most("C8", f"kernels per block, {name}", found[1], 28, count),
        ]
    return rows


def counted(kernels: Kernels) -> tuple[float, int] | None:
    """Passes over a hidden state, and kernels; None where these are not installed."""
    if (kernels == "kitchen" and kitchen_operations() is None) or (
        kernels == "triton" and not triton_works()
    ):
        return None
    traffic, unit = block_traffic(kernels)
    return traffic.element_wise / unit, traffic.kernel_count


def elsewhere(kernels: Kernels) -> tuple[float, int] | None:
    """The same in ComfyUI's interpreter, which has packages that this one lacks."""
    code = f"import json, suite; print(json.dumps(suite.counted({kernels!r})))"
    found = in_comfyui("-c", code)
    return None if found is None else (found[0], found[1])


def activations(at: Setting) -> list[Row]:
    del at
    stock, unit = block_traffic(None)
    before = f"{1 + stock.peak / unit:.1f}"
    at_once, in_chunks = (1 + block_traffic("plain", count)[0].peak / unit for count in (0, 4096))
    what = "hidden states alive in a block"
    return [
        Row("C15", f"{what}, all tokens at once", f"{at_once:.3g}", "", before, None),
        at_most("C15", f"{what}, 4096 tokens at a time", in_chunks, 6, before),
    ]


def lora(at: Setting) -> list[Row]:
    """What a forward does with a LoRA on the model, and without: it is in the weights before."""
    from memory_use import LORA_RANK
    from safetensors.torch import save_file

    config, tensors = small_model.CONFIG, {}
    width = config["num_attention_heads"] * config["attention_head_dim"]
    for layer in range(config["num_layers"]):
        module = f"transformer.blocks.{layer}.attn1.to_q"
        tensors[f"{module}.lora_A.weight"] = torch.randn(LORA_RANK, width)
        tensors[f"{module}.lora_B.weight"] = torch.randn(width, LORA_RANK)
    file = at.folder / "lora.safetensors"
    save_file(tensors, file)
    moved = []
    for model in (at.model, at.model.with_lora(file, 0.7, "both")):
        network, (noise, prompts) = small_model.load(model, "high"), small_model.inputs()
        with torch.inference_mode(), Traffic() as traffic:
            network(noise, torch.tensor([700.0]), prompts.positive.text, return_dict=False)
        moved.append(traffic.element_wise)
    extra = (moved[1] - moved[0]) / moved[0]
    return [
        Row(
            "C9", "memory traffic that a LoRA adds to a step", f"{extra:.0%}", "none", "+68 passes", not extra
        )
    ]


def compiled_with_cache(at: Setting) -> list[Row]:
    """Blocks that the step cache has computed, and how many of them the compiled graph computed."""
    graphs = 0

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        del inputs

        def run(*values: Tensor) -> Any:
            nonlocal graphs
            graphs += 1
            return graph(*values)

        return run

    torch._dynamo.register_backend(counting, name="counting")
    rows = []
    for name, threshold in (("no cache", None), ("a step cache", REGULAR), ("one that skips", 1e9)):
        graphs, blocks = 0, 0
        cache = None if threshold is None else StepCache(threshold)
        network = small_model.load(at.model, "high")
        use_own_forward(network, FloatChoices(compiler="counting"))

        def called(*_: object) -> None:
            nonlocal blocks
            blocks += 1

        for block in network.blocks:
            block.register_forward_hook(called)
        experts = _Engines(network)
        small_model.sampled(
            experts if cache is None else cache.around(experts), small_model.schedule(), "unipc"
        )
        what = f"compiled graphs run / blocks computed, with {name}"
        rows.append(Row("C10", what, f"{graphs} / {blocks}", "equal", "", graphs == blocks > 0))
    return rows


@dataclass
class _Engines:
    """One network for both experts, which a step cache can be put around."""

    network: WanTransformer3DModel

    def use(self, expert: str) -> Any:
        del expert
        return self

    def predict(
        self, latents: Tensor, timestep: float, condition: Any, cache: BlockCache | None = None
    ) -> Tensor:
        return velocity_of(self.network, latents, timestep, condition, torch.float32, cache)


def streaming(at: Setting) -> list[Row]:
    del at
    with tempfile.TemporaryDirectory() as folder:
        write_experts(Path(folder), LAYERS)
        recipes = {name: recipe_of(Path(folder), name, LAYERS) for name in ("high", "low")}
        return [
            at_most(
                "C19",
                f"waiting / computing with the switch: {residency}, an expert in {share:.0%} of a forward",
                stall(recipes, residency, share),
                0.02,
            )
            for residency, share in (("ring:3", 0.24), ("ring:3", 0.8), ("auto", 0.8))
        ]


def loading(at: Setting) -> list[Row]:
    recipe = at.model.experts["high"]
    file = recipe.files[0]

    def touch(tensors: Any) -> None:
        for tensor in tensors:
            tensor.flatten()[::1024].sum()

    def ours() -> None:
        touch(small_model.load(at.model, "high").parameters())

    def mapped() -> None:
        with safe_open(file, "pt") as opened:
            touch([opened.get_tensor(key) for key in opened.keys()])  # noqa: SIM118  not a dict

    whole = recipe.elements * 4

    def peak() -> dict[str, Any]:
        with watched() as watch:
            small_model.load(at.model, "high")
        return {"peak": watch.peak}

    share = statistics.median(in_a_child(peak)["peak"] for _ in range(5)) / whole

    seconds: dict[str, list[float]] = {"ours": [], "mapped": []}
    for _ in range(5):
        for name, work in (("ours", ours), ("mapped", mapped)):
            begun = time.process_time()
            work()
            seconds[name].append(time.process_time() - begun)
    apart = min(seconds["ours"]) - min(seconds["mapped"])
    return [
        Row(
            "C11",
            "loading an expert over reading its mapped file",
            f"{apart * 1000:.0f} ms more for {whole / 1e6:.0f} MB",
            "at most 100 ms more",
            "",
            apart <= 0.1,
        ),
        at_most(
            "C12",
            "mapped and other memory while loading / bytes of the weights (median of 5)",
            1 + share,
            1.05,
            text=f"{1 + share:.3f}",
        ),
    ]


def two_experts(at: Setting) -> list[Row]:
    """Anonymous memory of a run: both experts against the high one alone, weights computed, not mapped."""
    from dataclasses import replace

    from memory_use import sample_once

    model = replace(at.model, precision="bf16")  # other than the files': nothing stays mapped

    def case(*experts: str) -> Callable[[], dict[str, Any]]:
        def work() -> dict[str, Any]:
            with watched() as watch:
                sample_once(model, experts, small_model.CONFIG["text_dim"])
            return {"peak": watch.peak}

        return work

    one, two = in_a_child(case("high"))["peak"], in_a_child(case("high", "low"))["peak"]
    return [at_most("C13", "peak memory of a run with two experts / with one", two / one, 1.15)]


def frames(at: Setting) -> list[Row]:
    del at
    found = json.loads((ROOT / "bench" / "results" / "media-memory.json").read_text(encoding="utf-8"))
    picture, by_way = next(iter(found["peak_bytes"].items()))
    peaks, size = by_way["plain"], found["frame_bytes_fp32"][picture]
    few, many = (int(count) for count in (min(peaks, key=int), max(peaks, key=int)))
    slope = (peaks[str(many)] - peaks[str(few)]) / (many - few) / size
    what = f"memory per further frame / bytes of a frame ({found['date']}, bench/media_memory.py)"
    return [at_most("C14", what, slope, 0.1, "1")]


def vae(at: Setting) -> list[Row]:
    del at
    small = {
        "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12,
        "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
        "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
    }  # fmt: skip
    rows = []
    for name, config, shape in (("2.1", {}, (1, 16, 1, 60, 104)), ("2.2", small, (1, 48, 1, 44, 80))):
        found = {}
        for whose in ("stock", "own"):
            with torch.device("meta"):
                network = AutoencoderKLWan(**config).eval().to(torch.bfloat16)
                latent = torch.empty(shape, dtype=torch.bfloat16)
            if whose == "own":
                use_own_vae(network)
            cache = new_cache(network.decoder)
            with torch.inference_mode():
                for index in range(3):
                    with Traffic() as traffic:
                        network.decoder(latent, feat_cache=cache, feat_idx=[0], first_chunk=index == 0)
            found[whose] = traffic.element_wise / traffic.convolutions
        what = f"traffic beside the convolutions / theirs, decoding with VAE {name}"
        rows.append(at_most("C16", what, found["own"], 4.0, f"{found['stock']:.1f}"))
    return rows


def text(at: Setting) -> list[Row]:
    torch.manual_seed(0)
    config = UMT5Config(d_model=256, d_ff=512, d_kv=32, num_heads=8, num_layers=4, vocab_size=256)
    network = UMT5EncoderModel(config).eval()
    tokens, length = torch.randint(2, 256, (1, 60)), 512
    padded = torch.nn.functional.pad(tokens, (0, length - 60))
    mask = torch.nn.functional.pad(torch.ones_like(tokens), (0, length - 60))

    @torch.inference_mode()
    def short() -> Tensor:
        hidden: Tensor = network(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        return torch.nn.functional.pad(hidden, (0, 0, 0, length - 60))

    @torch.inference_mode()
    def long() -> Tensor:
        hidden: Tensor = network(input_ids=padded, attention_mask=mask).last_hidden_state
        return hidden * mask[..., None]

    apart = float((short() - long()).norm() / long().norm())
    ratio = ratio_of(short, long, at.pairs)
    return [
        of_ratio("C17", "reading 60 tokens / reading them padded to 512", ratio, 0.2),
        at_most("C17", "distance of the two", apart, 1e-5, text=f"{apart:.1e}"),
    ]


def arithmetic(at: Setting) -> list[Row]:
    del at
    small = {"num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48}
    rows = []
    for name, config, shape, stretches in (
        ("A14B", {}, (16, 21, 60, 104), 1),
        ("5B, a timestep per frame", small, (48, 31, 44, 80), 31),
    ):
        config = {**config, "num_layers": 2}
        with torch.device("meta"):
            network = WanTransformer3DModel(**config).eval()
            arguments = torch.empty(1, *shape), torch.zeros(1, stretches), torch.empty(1, 512, 4096)
        use_own_forward(network, FloatChoices())
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(*arguments, return_dict=False)
        share = counter.get_total_flops() / forward_flops(size_of(config), tokens_of(shape)).total
        rows.append(
            Row(
                "C18",
                f"arithmetic counted / foretold, {name}",
                f"{share:.4f}",
                "1.000",
                "",
                abs(share - 1) < 1e-3,
            )
        )
    return rows


def importing(at: Setting) -> list[Row]:
    del at

    def seconds(code: str) -> float:
        found = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, "-c", code], check=True)
            after = os.times()
            found.append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
        return statistics.median(found)

    nothing, pack, framework = (seconds(code) for code in ("pass", "import wan_duet", "import torch"))
    value = (pack - nothing) / (framework - nothing)
    return [at_most("C21", "importing the pack / importing torch", value, 1.2)]


class _Stop(Exception):  # noqa: N818  not an error
    pass


def stopping(at: Setting) -> list[Row]:
    """From the moment of a stop inside of a forward to the end of the run, in forwards."""
    whole = time.perf_counter()
    small_model.run(at.model)
    forward_s = (time.perf_counter() - whole) / (2 * small_model.STEPS)
    asked: list[float] = []

    class Watcher(Silent):
        def check(self) -> None:
            if asked:
                raise _Stop

    found = []
    for share in (0.3, 1.7, 2.5, 4.4, 5.2):
        asked.clear()
        timer = threading.Timer(share * forward_s, lambda: asked.append(time.perf_counter()))
        timer.start()
        try:
            small_model.run(at.model, progress=Watcher())
        except _Stop:
            found.append((time.perf_counter() - asked[0]) / forward_s)
        timer.cancel()
    return [
        at_most("C22", "from a stop to its end / one forward (median of 5)", statistics.median(found), 1.1)
    ]


PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "C1": loop,
    "C2": against_diffusers,
    "C3": against_comfyui,
    "C6": forwards,
    "C7": block,
    "C9": lora,
    "C10": compiled_with_cache,
    "C11": loading,
    "C13": two_experts,
    "C14": frames,
    "C15": activations,
    "C16": vae,
    "C17": text,
    "C18": arithmetic,
    "C19": streaming,
    "C21": importing,
    "C22": stopping,
}
"""C4 and C5 come with C3, C8 with C7, C12 with C11."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="C1")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made, torch.inference_mode():
        at = Setting(small_model.make(Path(made)), Path(made), options.pairs)
        for name in options.only:
            found = PARTS[name](at)
            rows += found
            for row in found:
                print(f"{row.gate:4} {mark(row):6} {row.what}: {row.found} ({row.goal})", flush=True)
    result = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "pairs": options.pairs,
        "rows": [asdict(row) for row in rows],
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.table:
        before, _, rest = options.table.read_text(encoding="utf-8").partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        made_table = "\n".join((MARKERS[0], *table(result), MARKERS[1]))
        options.table.write_text(before + made_table + after, encoding="utf-8")
    return int(any(row.passed is False for row in rows))


def mark(row: Row) -> str:
    return "-" if row.passed is None else "ok" if row.passed else "MISSED"


def table(result: dict[str, Any]) -> list[str]:
    lines = [
        f"{result['date']}, torch {result['torch']}, diffusers {result['diffusers']}; ratios are medians of "
        f"{result['pairs']} pairs (quartiles).",
        "",
        "| gate | what | goal | stock | ours | |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        entry = Row(**row)
        lines.append(
            f"| {entry.gate} | {entry.what} | {entry.goal} | {entry.stock} | {entry.found} | {mark(entry)} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
