"""What a run will take and what there is, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import pytest
import torch

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.device.precision import Part
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.memory_estimate import (
    MemoryEstimate,
    Stage,
    chunk_tokens,
    estimate_memory,
    vae_tiling,
    vae_working_bytes,
)
from wan_duet.pipelines.generate.stages import sample
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import StartLatents
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.vae.tile_size import Way
from wan_duet.pipelines.vae.tiles import Tiling
from wan_duet.pipelines.weights.footprint import weight_bytes
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored_tensors import StoredTensor

GIB = 2**30
SHAPE = (16, 21, 60, 104)  # 832x480, 81 frames


class Loaded(Exception):  # noqa: N818
    """Something was about to be loaded."""


class Device:
    """A device of any kind and size that nothing is ever loaded on."""

    def __init__(
        self,
        kind: str,
        free_bytes: int | None,
        total_bytes: int | None = None,
        dtypes: Mapping[Part, torch.dtype] = MappingProxyType({}),
        vae: Device | None = None,
    ) -> None:
        self.device, self._vae = torch.device(kind), vae or self
        self._free_bytes, self._total_bytes, self._dtypes = free_bytes, total_bytes, dtypes

    def for_part(self, part: Part) -> Device:
        return self._vae if part == "vae" else self

    def auto_dtype(self, part: Part) -> torch.dtype:
        return self._dtypes.get(part, torch.float32)

    def free_bytes(self) -> int | None:
        return self._free_bytes

    def total_bytes(self) -> int | None:
        return self._total_bytes

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        raise Loaded

    def release(self) -> None: ...

    def keep(self, resident: object) -> None: ...

    def take(self, working_bytes: int = 0) -> None: ...


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


@pytest.fixture(scope="module")
def a14b(toy: WanModel) -> WanModel:
    """The sizes of a real expert: forty blocks of one tensor each, stored in bf16."""
    config = {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824}
    block = StoredTensor(Path("high.safetensors"), "w", (14_288_491_584 // 40 // 1024, 1024), "BF16")
    recipe = Recipe.of(config, {f"blocks.{number}.attn1.to_q.weight": block for number in range(40)})
    return replace(toy, experts={"high": recipe, "low": recipe}, precision="bf16")


def stages(estimate: MemoryEstimate) -> dict[str, Stage]:
    return {stage.name: stage for stage in estimate.stages}


def test_every_network_of_the_run_is_a_stage_in_its_order(toy: WanModel) -> None:
    estimate = estimate_memory(toy, Device("cpu", None), SHAPE, ["high", "high", "low"])
    assert list(stages(estimate)) == ["text encoder", "high-noise expert", "low-noise expert", "VAE"]
    assert list(stages(estimate_memory(toy, Device("cpu", None), SHAPE, ["low"]))) == [
        "text encoder", "low-noise expert", "VAE",
    ]  # fmt: skip
    only = estimate_memory(toy, Device("cpu", None), SHAPE, ["low"], sampling_only=True)
    assert list(stages(only)) == ["low-noise expert"]


def test_weights_are_counted_in_the_dtypes_they_are_kept_in(toy: WanModel) -> None:
    whole, half = (
        estimate_memory(replace(toy, precision=precision), Device("cuda", None), SHAPE, ["high"])
        for precision in ("fp32", "bf16")
    )
    elements = toy.experts["high"].elements
    assert stages(whole)["high-noise expert"].weights_bytes == 4 * elements
    assert 2 * elements < stages(half)["high-noise expert"].weights_bytes < 2.2 * elements  # norms and such
    assert stages(half)["VAE"].weights_bytes == 2 * toy.vae.elements


def test_a_vae_on_another_device_is_estimated_with_the_memory_of_that_one(a14b: WanModel) -> None:
    one = Device("cuda", 40 * GIB, 80 * GIB)
    two = Device("cuda", 40 * GIB, 80 * GIB, vae=Device("cpu", 64 * GIB, 64 * GIB))
    together, apart = (estimate_memory(a14b, memory, SHAPE, ["high", "low"]) for memory in (one, two))
    assert together.vae is None
    assert apart.vae is not None
    assert list(stages(apart)) == ["text encoder", "high-noise expert", "low-noise expert"]
    assert (apart.vae.device, list(stages(apart.vae))) == ("cpu", ["VAE"])
    assert apart.text().endswith("64 of 64 GiB are free")
    estimate_memory(a14b, Device("cuda", 40 * GIB, vae=Device("cpu", None)), SHAPE, ["high"]).require_room()
    full = estimate_memory(a14b, Device("cuda", 40 * GIB, vae=Device("cpu", 2**20)), SHAPE, ["high"])
    with pytest.raises(ModelError, match=r"the VAE needs .* GiB on cpu"):
        full.require_room()


def test_experts_need_not_leave_room_for_a_vae_on_another_device(toy: WanModel) -> None:
    shape, free, elsewhere = (16, 2, 60, 104), 600 * 2**20, Device("cpu", 8 * GIB)
    beside, apart = (
        estimate_memory(toy, Device("cuda", free, vae=vae), shape, ["high", "low"]).residency
        for vae in (None, elsewhere)
    )
    assert beside is not None
    assert apart is not None
    assert beside.slots < beside.units
    assert apart.slots == apart.units


def test_every_network_computes_in_the_dtype_that_its_device_has_for_it(toy: WanModel) -> None:
    dtypes: dict[Part, torch.dtype] = {
        "transformer": torch.bfloat16,
        "text_encoder": torch.float16,
        "vae": torch.float32,
    }
    estimate = estimate_memory(toy, Device("cuda", None, dtypes=dtypes), SHAPE, ["high"])
    assert [stage.dtype for stage in estimate.stages] == ["float16", "bfloat16", "float32"]
    assert estimate.dtype == "bfloat16"
    assert stages(estimate)["VAE"].weights_bytes == 4 * toy.vae.elements
    chosen = estimate_memory(
        replace(toy, precision="bf16"), Device("cuda", None, dtypes=dtypes), SHAPE, ["high"]
    )
    assert [stage.dtype for stage in chosen.stages] == ["bfloat16"] * 3


def test_a_device_of_unknown_size_is_used_as_little_as_can_be(a14b: WanModel) -> None:
    shape = (16, 21, 90, 160)
    unknown, roomy = (
        estimate_memory(a14b, Device("privateuseone", free, free), shape, ["high", "low"])
        for free in (None, 200 * GIB)
    )
    assert unknown.residency is not None
    assert roomy.residency is not None
    assert (unknown.residency.slots, roomy.residency.slots) == (3, 80)
    assert stages(unknown)["VAE"].working_bytes < stages(roomy)["VAE"].working_bytes / 8
    assert chunk_tokens(a14b, shape, Device("privateuseone", None)) == 12600  # a sixth of 75600
    assert chunk_tokens(a14b, shape, Device("privateuseone", None, 200 * GIB)) == 0
    unknown.require_room()
    assert "the free memory of privateuseone is unknown" in unknown.text()


def test_files_of_the_right_dtype_stay_files_on_a_cpu_and_nowhere_else(a14b: WanModel) -> None:
    on_cpu, on_gpu, converted = (
        stages(estimate_memory(replace(a14b, precision=precision), Device(kind, None), SHAPE, ["high"]))
        for kind, precision in (("cpu", "bf16"), ("cuda", "bf16"), ("cpu", "fp32"))
    )
    assert on_cpu["high-noise expert"].fixed_bytes == 0
    assert on_cpu["high-noise expert"].mapped_bytes == on_cpu["high-noise expert"].weights_bytes
    assert on_gpu["high-noise expert"].mapped_bytes == 0
    assert converted["high-noise expert"].mapped_bytes == 0


def test_a_run_that_fits_is_let_through(a14b: WanModel) -> None:
    estimate_memory(a14b, Device("cuda", 40 * GIB), SHAPE, ["high"]).require_room()
    estimate_memory(a14b, Device("cuda", None), SHAPE, ["high"]).require_room()


def test_weights_that_do_not_fit_stream(a14b: WanModel) -> None:
    estimate = estimate_memory(a14b, Device("cuda", 12 * GIB, 24 * GIB), SHAPE, ["high", "low"])
    estimate.require_room()
    assert estimate.residency is not None
    assert 3 < estimate.residency.slots < 40
    assert "3 slots stream the others" in estimate.text()


@pytest.mark.parametrize(("total", "chunk"), [(24, 0), (12, 5460), (8, 5460)])
def test_a_small_device_computes_a_sixth_of_the_tokens_at_a_time(
    a14b: WanModel, total: int, chunk: int
) -> None:
    assert chunk_tokens(a14b, SHAPE, Device("cuda", 6 * GIB, total * GIB)) == chunk  # of 32760
    assert chunk_tokens(a14b, SHAPE, Device("cpu", 6 * GIB, total * GIB)) == 0


def test_what_a_step_cache_keeps_is_counted(a14b: WanModel) -> None:
    device = Device("cuda", 6 * GIB, 24 * GIB)
    without, beside = (
        estimate_memory(a14b, device, SHAPE, ["high"], cached=cached) for cached in (False, True)
    )
    more = beside.stages[1].working_bytes / without.stages[1].working_bytes
    assert more == pytest.approx(1.8, abs=1e-3)
    assert without.residency is not None
    assert beside.residency is not None
    assert beside.residency.slots < without.residency.slots


def test_weights_that_shall_all_stay_and_do_not_fit_are_refused_in_numbers(a14b: WanModel) -> None:
    model = replace(a14b, residency="resident")
    estimate = estimate_memory(model, Device("cuda", 22 * GIB, 24 * GIB), SHAPE, ["high", "low"])
    message = (
        r"Not enough memory: the high-noise expert needs 55\.7 GiB on cuda \(53\.2 for bfloat16 weights, "
        r"2\.\d\d for activations\), but only 22 of 24 GiB are free\. .*device with more"
    )
    with pytest.raises(ModelError, match=message):
        estimate.require_room()


def test_what_leaves_no_room_for_two_blocks_is_refused(a14b: WanModel) -> None:
    with pytest.raises(ModelError, match=r"needs 3\.\d\d .* \(1\.33 for .* are free\. Use a smaller size"):
        estimate_memory(a14b, Device("cuda", 3 * GIB), SHAPE, ["high"]).require_room()
    with pytest.raises(ModelError, match="The weights alone do not fit"):
        estimate_memory(a14b, Device("cuda", GIB), SHAPE, ["high"]).require_room()


def test_a_picture_that_does_not_fit_asks_for_a_smaller_one(a14b: WanModel) -> None:
    shape = (16, 41, 90, 160)  # 1280x720, 161 frames
    with pytest.raises(ModelError, match="smaller size or fewer frames"):
        estimate_memory(a14b, Device("cuda", 8 * GIB, 12 * GIB), shape, ["high"]).require_room()


def test_a_run_that_cannot_fit_loads_nothing_unless_told_to_try(toy: WanModel, tmp_path: Path) -> None:
    request = t2v_request(prompt="a", seed=1)

    def go(**options: bool) -> None:
        out, memory = tmp_path / "a.mp4", Device("cpu", 1000)
        run(request, toy, out=out, memory=memory, progress=Silent(), **options)

    with pytest.raises(ModelError, match="memory: the "):
        go()
    with pytest.raises(Loaded):
        go(check_memory=False)
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_cannot_fit_loads_nothing_unless_told_to_try(toy: WanModel) -> None:
    latents, prompts = torch.zeros(1, 16, 1, 4, 4), Prompts(Condition(torch.zeros(1, 8, 128)), None)
    sampling = Sampling(Schedule((1.0, 0.0), (1000.0,), ("low",)), "euler", {"low": 1.0})

    def go(**options: bool) -> None:
        start, memory = StartLatents(latents, latents), Device("cpu", 1000)
        sample(toy, sampling, start, prompts, memory, Silent(), **options)

    with pytest.raises(ModelError, match="memory: the low-noise expert"):
        go()
    with pytest.raises(Loaded):
        go(check_memory=False)


def test_float32_is_told_of_bf16(a14b: WanModel) -> None:
    whole = replace(a14b, precision="fp32")
    with pytest.raises(ModelError, match="precision to bf16"):
        estimate_memory(whole, Device("cuda", 4 * GIB), SHAPE, ["high"]).require_room()


def test_a_vae_with_little_room_is_counted_in_tiles(toy: WanModel) -> None:
    shape = (16, 21, 180, 320)
    roomy, tight = (
        stages(estimate_memory(toy, Device("cuda", free), shape, ["high"]))["VAE"].working_bytes
        for free in (80 * GIB, GIB // 8)
    )
    assert tight < roomy / 2


@pytest.mark.parametrize("way", get_args(Way))
@pytest.mark.parametrize(
    ("kind", "free", "tiling"),
    [
        ("cuda", None, Tiling(256, 192, spill=True)),
        ("cuda", 0, Tiling(128, 96, spill=True)),
        ("cuda", 80 * GIB, None),
        ("cpu", None, Tiling(256, 192)),
        ("cpu", 0, Tiling(128, 96)),
        ("cpu", 80 * GIB, None),
    ],
)
def test_tiles_follow_the_free_memory_and_spill_where_main_memory_is_another(
    toy: WanModel, way: Way, kind: str, free: int | None, tiling: Tiling | None
) -> None:
    assert vae_tiling(toy, way, (16, 21, 180, 320), Device(kind, free)) == tiling


@pytest.mark.parametrize("way", get_args(Way))
def test_the_weights_of_the_vae_are_not_free_memory(toy: WanModel, way: Way) -> None:
    shape = (16, 21, 180, 320)
    working = vae_working_bytes(toy, way, shape, torch.float32, None)
    weights = weight_bytes(toy.vae, lambda _: torch.float32)
    assert vae_tiling(toy, way, shape, Device("cuda", working + weights)) is None
    assert vae_tiling(toy, way, shape, Device("cuda", working + weights - 1)) is not None


@pytest.mark.parametrize("free", [None, 3 * GIB])
def test_the_line_for_people_names_every_stage_and_the_room(toy: WanModel, free: int | None) -> None:
    text = estimate_memory(toy, Device("cpu", free, free), SHAPE, ["high", "low"]).text()
    assert "\n" not in text
    assert all(name in text for name in ("text encoder", "high-noise", "low-noise", "VAE"))
    assert ("3 of 3 GiB are free" if free else "free memory of cpu is unknown") in text


def test_the_receipt_gets_the_same_in_bytes(toy: WanModel) -> None:
    estimate = estimate_memory(toy, DeviceMemory("cpu"), SHAPE, ["high"])
    told: dict[str, Any] = json.loads(json.dumps(estimate.as_dict()))
    assert told["stages"][1]["weights_bytes"] == stages(estimate)["high-noise expert"].weights_bytes
    assert told["device"] == "cpu"
