"""A whole run on the embedded model: what comes out, what it says about itself, and what a stop leaves
behind.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wan_duet.pipelines.device.memory import DeviceMemory, Resident
from wan_duet.pipelines.device.precision import Part
from wan_duet.pipelines.errors import LoraError, ModelError, RequestError, SamplingError
from wan_duet.pipelines.generate.checked_run import Acceleration, checked
from wan_duet.pipelines.generate.local_abilities import local_abilities
from wan_duet.pipelines.generate.local_receipt import latents_hash, read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.generate.stages import encode_prompts, sample
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.networks.prompt_cache import PromptCache
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import WanRequest, check, parse, t2v_request
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import StartLatents, initial_noise
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.video.frame_hash import FrameHash
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.weights.lora.find import LoraSources

SMALL = {
    "prompt": "a red ball moves left",
    "num_frames": 17,
    "num_inference_steps": 4,
    "seed": 7,
    "aspect_ratio": "1:1",
    "interpolator_model": "none",
}


def make(
    model: WanModel, out: Path, progress: Silent | None = None, *, images: bool = False, **changes: Any
) -> Result:
    request = t2v_request(**{**SMALL, **changes})
    memory = DeviceMemory("cpu")
    return run(request, model, out=out, memory=memory, progress=progress or Silent(), return_images=images)


@pytest.fixture(scope="module")
def result(toy: WanModel, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """With what the other runs here leave out, the frames in between."""
    return make(toy, tmp_path_factory.mktemp("out") / "clip.mp4", interpolator_model="film")


def test_the_file_is_what_the_plan_says(result: Result) -> None:
    facts = probe(result.path)
    assert (facts.width, facts.height) == (32, 32)
    assert facts.frames == 33  # 17 generated, and one between each two
    assert facts.fps == Fraction(32)


def test_the_receipt_is_in_the_file_and_beside_it(result: Result) -> None:
    inside = json.loads(probe(result.path).tags["wan_duet"])
    beside = json.loads(sidecar(result.path).read_text(encoding="utf-8"))
    timings = beside.pop("timings_s")
    assert set(timings) == {"prompt", "text", "input", "sampling", "video"}
    inside.pop("timings_s")
    content = result.path.read_bytes()
    assert beside.pop("file") == {"sha256": sha256(content).hexdigest(), "size_bytes": len(content)}
    assert inside == beside


def test_the_receipt_says_what_was_asked_decided_and_used(result: Result) -> None:
    receipt = result.receipt
    assert receipt["request"]["prompt"] == SMALL["prompt"]
    assert receipt["seed"] == result.seed == 7
    assert receipt["plan"]["experts"] == ["high", "high", "low", "low"]
    assert {"field": "interpolator_model", "asked": "film", "used": "flow"}.items() <= next(
        item for item in receipt["adjustments"] if item["field"] == "interpolator_model"
    ).items()
    assert all(value.startswith("sha256:") for value in receipt["model"]["files"].values())
    assert [*receipt["model"]["stored_as"]["low"]] == ["float16"]
    assert {"torch", "diffusers", "transformers", "av", "python"} <= set(receipt["versions"])


def test_the_receipt_tells_nothing_of_the_users_folders(result: Result) -> None:
    assert str(Path.home()) not in json.dumps(result.receipt)


def packets(path: Path) -> list[bytes]:
    """Everything of a file but its metadata, which holds the seconds that a run took."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux()]


def test_the_receipt_holds_the_hash_of_the_frames_which_come_when_asked_for(
    result: Result, toy: WanModel, tmp_path: Path
) -> None:
    assert result.images is None
    shown = make(toy, tmp_path / "shown.mp4", interpolator_model="film", images=True)
    assert shown.images is not None
    assert shown.images.shape == (33, 32, 32, 3)
    assert 0 <= float(shown.images.min()) <= float(shown.images.max()) <= 1
    frame_hash = FrameHash()
    for image in shown.images:
        frame_hash.add((image.numpy() * 255).round().astype(np.uint8))
    assert result.receipt["frames_sha256"] == frame_hash.sha256


def test_frames_that_are_not_those_of_the_receipt_make_no_file(
    result: Result, toy: WanModel, tmp_path: Path
) -> None:
    recorded = replace(read_receipt(sidecar(result.path)), frames_sha256="0" * 64)
    again, out = {"memory": DeviceMemory("cpu"), "progress": Silent()}, tmp_path / "again.mp4"
    with pytest.raises(SamplingError, match="frames are not: all versions are equal"):
        repeat(recorded, toy, out=out, **again)
    assert not out.exists()
    in_tiles = replace(recorded, decoded="in tiles of 64 pixels every 48")
    assert recorded.decoded is not None
    with pytest.raises(SamplingError, match="in tiles of 64 pixels every 48 there, whole here"):
        in_tiles.require_frames("f" * 64, recorded.decoded)
    replace(recorded, frames_sha256=None).require_frames("f" * 64)  # a receipt of an older version


def test_a_receipt_makes_the_same_latents_again(result: Result, toy: WanModel, tmp_path: Path) -> None:
    recorded = read_receipt(sidecar(result.path))
    again = repeat(recorded, toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"), progress=Silent())
    assert again.receipt["latents_sha256"] == result.receipt["latents_sha256"]
    assert again.receipt["frames_sha256"] == result.receipt["frames_sha256"]
    assert packets(again.path) == packets(result.path)


def test_a_receipt_of_other_latents_is_not_claimed_to_be_repeated(
    result: Result, toy: WanModel, tmp_path: Path
) -> None:
    changed = json.loads(sidecar(result.path).read_text()) | {"latents_sha256": "0" * 64}
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(changed))
    with pytest.raises(SamplingError, match="not those of the receipt"):
        repeat(
            read_receipt(file), toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"), progress=Silent()
        )
    assert not (tmp_path / "again.mp4").exists()


def test_a_receipt_of_another_model_is_refused(result: Result, toy: WanModel, tmp_path: Path) -> None:
    changed = json.loads(sidecar(result.path).read_text())
    changed["model"]["files"]["vae/diffusion_pytorch_model.safetensors"] = "sha256:0"
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(changed))
    with pytest.raises(ModelError, match=r"vae/diffusion_pytorch_model\.safetensors differ"):
        repeat(read_receipt(file), toy, out=tmp_path / "x.mp4", memory=DeviceMemory("cpu"), progress=Silent())


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1, "runner": "local"}', '{"format": 99, "runner": "local"}']
)
def test_something_that_is_no_receipt_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(content)
    with pytest.raises(RequestError, match="from-receipt"):
        read_receipt(file)


def test_the_building_blocks_give_the_same_bits(result: Result, toy: WanModel) -> None:
    plan = read_receipt(sidecar(result.path)).plan
    memory = DeviceMemory("cpu")
    positive, negative = encode_prompts(toy, [SMALL["prompt"], ""], memory, Silent())
    latents = sample(
        toy,
        Sampling(Schedule.of_plan(plan), "unipc", {"high": 3.5, "low": 4.0}),
        StartLatents(torch.zeros(1, *plan.latent_shape), initial_noise((1, *plan.latent_shape), 7)),
        Prompts(Condition(positive.embeddings), Condition(negative.embeddings)),
        memory,
        Silent(),
    )
    assert latents_hash(latents) == result.receipt["latents_sha256"]


class Shrinking(DeviceMemory):
    """Others take memory all the time: every look finds less."""

    left = 2**20

    def free_bytes(self) -> int:
        self.left = max(self.left - 2**17, 0)
        return self.left


def test_the_residency_of_the_receipt_is_the_one_that_was_sampled_with(
    toy: WanModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = run(
        t2v_request(**SMALL),
        toy,
        out=tmp_path / "a.mp4",
        memory=Shrinking("cpu"),
        progress=Silent(),
        check_memory=False,
    )
    told = made.receipt["memory"]["residency"]
    sampled = next(line for line in caplog.messages if line.startswith("experts: "))
    assert sampled.startswith(f"experts: {told['slots']} of {told['units']} units ")


def test_two_stages_one_by_one_equal_both_at_once(toy: WanModel) -> None:
    from wan_duet.pipelines.plan.sigmas import from_sigmas, linear_grid, split

    memory, grid, shape = DeviceMemory("cpu"), linear_grid(6, 5.0), (1, 16, 2, 8, 14)
    positive, negative = encode_prompts(toy, ["a", "b"], memory, Silent())
    prompts, guidance = (
        Prompts(Condition(positive.embeddings), Condition(negative.embeddings)),
        {"high": 3.5, "low": 4.0},
    )
    noise, empty, switch = initial_noise(shape, 3), torch.zeros(shape), split(grid, 0.875)

    def sampled(schedule: Schedule, latents: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        sampling, start = Sampling(schedule, "euler", guidance), StartLatents(latents, noise)
        return sample(toy, sampling, start, prompts, memory, Silent())

    whole = sampled(Schedule.of_grid(grid, 0.875), empty, noise)
    high = Schedule.of_stage(from_sigmas(grid.sigmas[: switch + 1]), "high")
    between = sampled(high, empty, noise)
    low = Schedule.of_stage(from_sigmas(grid.sigmas[switch:]), "low")
    chained = sampled(low, between, None)
    assert float((chained - whole).norm() / whole.norm()) <= 1e-5


def test_another_seed_is_another_video_and_none_is_drawn(
    toy: WanModel, tmp_path: Path, result: Result
) -> None:
    other = make(toy, tmp_path / "a.mp4", seed=8)
    assert other.receipt["latents_sha256"] != result.receipt["latents_sha256"]
    drawn = make(toy, tmp_path / "b.mp4", seed=None)
    assert drawn.seed == drawn.receipt["seed"] == drawn.receipt["plan"]["seed"]


def test_a_reversed_video_is_the_same_one_backwards(toy: WanModel, tmp_path: Path) -> None:
    forward, backward = (
        run(
            t2v_request(**SMALL, reverse_video=reverse, acceleration="none"),
            toy,
            out=tmp_path / f"{reverse}.mp4",
            memory=DeviceMemory("cpu"),
            progress=Silent(),
            return_images=True,
        ).images
        for reverse in (False, True)
    )
    assert forward is not None
    assert backward is not None
    assert torch.equal(forward.flip(0), backward)


def test_a_lora_on_one_expert_changes_the_video_and_stands_in_the_receipt(
    toy: WanModel, tmp_path: Path, result: Result
) -> None:
    shape = toy.experts["high"].tensors["blocks.0.attn2.to_v.weight"].shape
    file = tmp_path / "style.safetensors"
    save_file(
        {
            "transformer.blocks.0.attn2.to_v.lora_A.weight": torch.randn(2, shape[1]),
            "transformer.blocks.0.attn2.to_v.lora_B.weight": torch.randn(shape[0], 2),
        },
        file,
    )
    with_lora = make(toy, tmp_path / "a.mp4", loras=[{"path": str(file), "transformer": "low"}])
    (applied,) = with_lora.receipt["model"]["loras"]
    told = {"file": "style.safetensors", "expert": "low", "strength": 1.0, "ranks": [2], "tensors": 1}
    assert told.items() <= applied.items()
    assert (applied["keys"]["matched"], applied["keys"]["unmatched"]) == (2, 0)
    assert with_lora.receipt["latents_sha256"] != result.receipt["latents_sha256"]
    without = make(toy, tmp_path / "b.mp4", loras=[{"path": str(file), "transformer": "low", "scale": 0.0}])
    assert without.receipt["latents_sha256"] == result.receipt["latents_sha256"]


def test_a_receipt_from_before_lora_coverage_is_still_read(tmp_path: Path, result: Result) -> None:
    model = {
        **result.receipt["model"],
        "loras": [{"file": "a.safetensors", "expert": "low", "strength": 1.0, "ranks": [2], "tensors": 1}],
    }
    file = tmp_path / "old.json"
    file.write_text(json.dumps({**result.receipt, "model": model}))
    assert replace(read_receipt(file), folder=result.path.parent) == read_receipt(sidecar(result.path))


def test_a_lora_given_by_its_whole_path_goes_by_its_name(toy: WanModel, tmp_path: Path) -> None:
    shape = toy.experts["high"].tensors["blocks.0.attn1.to_q.weight"].shape
    file = tmp_path / "style.safetensors"
    parts = {"A": torch.zeros(1, shape[1]), "B": torch.zeros(shape[0], 1)}
    save_file({f"blocks.0.attn1.to_q.lora_{side}.weight": part for side, part in parts.items()}, file)
    done = make(toy, tmp_path / "a.mp4", loras=[{"path": str(file)}])
    assert str(tmp_path) not in json.dumps([done.receipt, dict(probe(done.path).tags)])
    assert done.receipt["request"]["loras"][0]["path"] == "style.safetensors"


def test_a_lora_of_which_little_fits_is_refused_unless_the_user_allows_it(
    toy: WanModel, tmp_path: Path
) -> None:
    shape = toy.experts["high"].tensors["blocks.0.attn1.to_q.weight"].shape
    file = tmp_path / "foreign.safetensors"
    parts = {"A": torch.ones(1, shape[1]), "B": torch.ones(shape[0], 1)}
    blocks = ("blocks.0", "blocks.38", "blocks.39")
    pairs = {
        f"{b}.attn1.to_q.lora_{side}.weight": part.clone() for b in blocks for side, part in parts.items()
    }
    save_file(pairs, file)
    request = t2v_request(**SMALL, loras=[{"path": str(file)}])
    settings: dict[str, Any] = {"memory": DeviceMemory("cpu"), "progress": Silent()}
    with pytest.raises(LoraError, match=r"only 33% of its keys fit.*--allow-partial-loras"):
        run(request, toy, out=tmp_path / "a.mp4", **settings)
    done = run(request, toy, out=tmp_path / "a.mp4", allow_partial_loras=True, **settings)
    assert done.receipt["model"]["loras"][0]["keys"]["unmatched"] == 4
    recorded = read_receipt(sidecar(done.path))
    again = repeat(recorded, toy, out=tmp_path / "b.mp4", lora_sources=LoraSources([tmp_path]), **settings)
    assert again.receipt["latents_sha256"] == done.receipt["latents_sha256"]


def test_a_missing_lora_is_named_before_anything_runs(toy: WanModel, tmp_path: Path) -> None:
    with pytest.raises(LoraError, match=r"nowhere\.safetensors not found"):
        make(toy, tmp_path / "a.mp4", loras=[{"path": "nowhere.safetensors"}])
    assert list(tmp_path.iterdir()) == []


@dataclass
class Watch(Silent):
    """Raises at the n-th check of a stage, like a user pressing Stop then."""

    stage: str
    after: int
    now: str = ""
    checks: int = 0

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.now, self.checks = stage, 0

    def check(self) -> None:
        self.checks += 1
        if self.now == self.stage and self.checks > self.after:
            raise Stopped


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("stage", ["text", "sampling", "video"])
def test_a_stop_leaves_nothing_behind_and_the_next_run_works(
    toy: WanModel, tmp_path: Path, stage: str, result: Result
) -> None:
    with pytest.raises(Stopped):
        make(toy, tmp_path / "clip.mp4", progress=Watch(stage, after=1))
    assert list(tmp_path.iterdir()) == []
    assert make(toy, tmp_path / "clip.mp4").receipt["latents_sha256"] == result.receipt["latents_sha256"]


NETWORKS = ("OwnTransformer", "OwnVae", "Umt5Encoder")


def alive() -> list[str]:
    """The networks that exist in this process, without a garbage collection that would help."""
    return [type(item).__name__ for item in gc.get_objects() if type(item).__name__ in NETWORKS]


@dataclass
class Ledger:
    """A Memory that writes down what was asked of it, and sees to it that nothing lives while it is asked."""

    entries: list[str]
    device = torch.device("cpu")

    def auto_dtype(self, part: Part) -> torch.dtype:
        return torch.float32

    def for_part(self, part: Part) -> Ledger:
        return self

    def free_bytes(self) -> None: ...

    def total_bytes(self) -> None: ...

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        assert size_bytes > 0
        assert working_bytes > 0
        assert alive() == []
        self.entries.append(what)

    def release(self) -> None:
        assert alive() == []
        self.entries.append("released")

    def keep(self, resident: Resident) -> None:
        resident.close()
        self.release()

    def take(self, working_bytes: int = 0) -> None: ...


def reserved(model: WanModel, tmp_path: Path, **changes: Any) -> list[str]:
    ledger, model = Ledger([]), replace(model, prompts=PromptCache())
    run(t2v_request(**{**SMALL, **changes}), model, out=tmp_path / "a.mp4", memory=ledger, progress=Silent())
    return ledger.entries


def test_one_network_is_in_memory_at_a_time(toy: WanModel, tmp_path: Path) -> None:
    assert reserved(toy, tmp_path) == [
        "text encoder", "released", "high-noise and low-noise expert", "released", "VAE", "released",
    ]  # fmt: skip


def test_an_expert_that_no_step_needs_is_never_loaded(toy: WanModel, tmp_path: Path) -> None:
    loaded = reserved(toy, tmp_path, num_inference_steps=2, shift=10.0)
    assert [what for what in loaded if "expert" in what] == ["high-noise expert"]


def test_without_guidance_the_negative_prompt_is_not_encoded(toy: WanModel, tmp_path: Path) -> None:
    counted: list[int] = []

    class Count(Silent):
        def begin(self, stage: str, total: int, unit: str) -> None:
            if stage == "text":
                counted.append(total)

    make(toy, tmp_path / "a.mp4", progress=Count(), guidance_scale=1.0, guidance_scale_2=1.0)
    make(toy, tmp_path / "a.mp4", progress=Count(), guidance_scale=1.0, guidance_scale_2=4.0)
    assert counted == [1, 2]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"interpolator_model": "rife"}, "interpolator_model"),
        ({"enable_prompt_expansion": True}, "enable_prompt_expansion"),
        ({"enable_safety_checker": True}, "enable_safety_checker"),
    ],
)
def test_a_demand_that_cannot_be_honoured_loads_nothing(
    toy: WanModel, tmp_path: Path, changes: Mapping[str, Any], field: str
) -> None:
    ledger = Ledger([])
    with pytest.raises(RequestError, match=field):
        run(
            t2v_request(**{**SMALL, **changes}), toy, out=tmp_path / "a.mp4", memory=ledger, progress=Silent()
        )
    assert ledger.entries == []


def test_prompt_too_long_is_reported_not_dropped_in_silence(toy: WanModel, tmp_path: Path) -> None:
    long = make(toy, tmp_path / "a.mp4", prompt="ball " * 700)
    notes = [item for item in long.receipt["adjustments"] if item["field"] == "prompt"]
    assert notes == [
        {
            "field": "prompt",
            "reason": "too long: the model reads 512 tokens, so the last 189 are cut",
        }
    ]


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(("words", "cut"), [(511, 0), (512, 1), (700, 189)])  # and the end of the sequence
def test_check_tells_of_a_prompt_that_is_too_long(toy: WanModel, field: str, words: int, cut: int) -> None:
    request = t2v_request(**{"prompt": "a ball", field: "ball " * words})
    report = check(request, family=toy.family, abilities=local_abilities(Interpolators(), toy))
    told = f"warning: {field} {512 + cut} tokens: too long: the model reads 512 tokens, so the last {cut} "
    assert report.ok
    assert (told in report.text()) == (cut > 0)


def test_three_runs_in_a_row_leak_nothing(toy: WanModel, tmp_path: Path) -> None:
    def left() -> int:
        make(toy, tmp_path / "a.mp4")
        gc.collect()
        return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())

    first, second, third = left(), left(), left()
    assert alive() == []
    assert first == second == third


def test_a_parsed_json_request_runs_like_a_built_one(toy: WanModel, tmp_path: Path, result: Result) -> None:
    """And its file tells nothing when it should not."""
    request: WanRequest = parse("text-to-video", json.dumps(SMALL))
    memory, out = DeviceMemory("cpu"), tmp_path / "a.mp4"
    again = run(request, toy, out=out, memory=memory, progress=Silent(), embed_receipt=False)
    assert again.receipt["latents_sha256"] == result.receipt["latents_sha256"]
    assert "wan_duet" not in probe(out).tags
    assert sidecar(out).exists()


def test_strength_zero_gives_the_latents_back(toy: WanModel) -> None:
    latents = torch.randn(1, 16, 2, 4, 4)
    nothing = Sampling(Schedule((0.0,), (), ()), "euler", {"high": 1.0, "low": 1.0})
    prompts = Prompts(Condition(torch.zeros(1, 1, 128)), None)
    kept = sample(toy, nothing, StartLatents(latents, None), prompts, DeviceMemory("cpu"), Silent())
    assert torch.equal(kept, latents)


def arguments(
    model: WanModel,
    schedule: Schedule = Schedule((1.0, 0.0), (1000.0,), ("high",)),  # noqa: B008  frozen
    latents: torch.Tensor | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """What `sample` needs, by default for one step on the high expert."""
    nothing = torch.zeros(1, 16, 2, 4, 4)
    defaults: dict[str, Any] = {
        "model": model,
        "sampling": Sampling(schedule, "euler", {"high": 1.0, "low": 1.0}),
        "start": StartLatents(nothing if latents is None else latents, nothing),
        "prompts": Prompts(Condition(torch.zeros(1, 512, 128)), None),
        "memory": Ledger([]),
        "progress": Silent(),
    }
    return {**defaults, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({"latents": torch.zeros(1, 16, 2, 9, 8)}, ModelError, "multiples of 16 pixels"),
        ({"latents": torch.zeros(1, 16, 0, 8, 8)}, ModelError, "0 latent frames"),
        ({"latents": torch.zeros(1, 4, 2, 8, 8)}, ModelError, r"needs \(1, 16, frames"),
        ({"latents": torch.full((1, 16, 2, 4, 4), torch.nan)}, SamplingError, "latents: contains NaN or Inf"),
        (
            {"prompts": Prompts(Condition(torch.full((1, 512, 128), torch.inf)), None)},
            SamplingError,
            "positive: contains NaN or Inf",
        ),
    ],
)
def test_material_that_cannot_be_sampled_loads_nothing(
    toy: WanModel, changes: dict[str, Any], error: type[Exception], word: str
) -> None:
    given = arguments(toy, **changes)
    with pytest.raises(error, match=word):
        sample(**given)
    assert given["memory"].entries == []


def test_an_expert_that_the_model_lacks_is_named_before_anything_is_loaded(toy: WanModel) -> None:
    single = replace(toy, experts={"high": toy.experts["high"]})
    given = arguments(single, schedule=Schedule((1.0, 0.5, 0.0), (1000.0, 500.0), ("high", "low")))
    with pytest.raises(ModelError, match="no low-noise expert"):
        sample(**given)
    assert given["memory"].entries == []


def test_a_stop_between_the_experts_leaves_no_network(toy: WanModel) -> None:
    class StopAtLow(Silent):
        steps = 0

        def advance(self, done: int, preview: object = None) -> None:
            self.steps = done

        def check(self) -> None:
            if self.steps:
                raise Stopped

    given = arguments(toy, schedule=Schedule((1.0, 0.5, 0.0), (1000.0, 500.0), ("high", "low")))
    with pytest.raises(Stopped):
        sample(**{**given, "progress": StopAtLow()})
    assert alive() == []


def test_acceleration_is_exact_unless_the_runner_is_told_otherwise(toy: WanModel, tmp_path: Path) -> None:
    request, none = t2v_request(**SMALL), t2v_request(**SMALL, acceleration="none")

    def skips(request: WanRequest, acceleration: Acceleration) -> bool:
        ready = checked(
            request,
            toy,
            interpolators=Interpolators(),
            lora_sources=LoraSources(),
            progress=Silent(),
            acceleration=acceleration,
        )
        return ready.cache is not None

    assert not skips(request, "exact")
    assert skips(request, "as requested")
    assert not skips(none, "as requested")
    made = run(
        request,
        toy,
        out=tmp_path / "a.mp4",
        memory=Ledger([]),
        progress=Silent(),
        acceleration="as requested",
    )
    assert "acceleration" in made.receipt
