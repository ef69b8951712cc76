"""Attaching LoRAs to a model: to the right expert, in any order, whole or refused, and without a trace."""

from __future__ import annotations

import gc
import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from experts import resident
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import LoraError
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.expert import meta_expert
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.streaming.executor import Executor
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.recipe import Recipe, materialise
from wan_duet.pipelines.weights.stored_tensors import Files

from .lora_files import DIALECTS, difference, low_rank_file, made, matrices, stored, tiny_expert

CPU = torch.device("cpu")
Q = "blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return tiny_expert(tmp_path_factory.mktemp("expert"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> WanModel:
    """The embedded model with two tiny experts in place of its own."""
    other = tiny_expert(tmp_path_factory.mktemp("other"), seed=1)
    return replace(load_model("toy"), experts=MappingProxyType({"high": recipe, "low": other}))


@pytest.fixture
def file(tmp_path: Path, recipe: Recipe) -> Path:
    low_rank_file(tmp_path / "style.safetensors", recipe)
    return tmp_path / "style.safetensors"


def dora_file(file: Path, recipe: Recipe, seed: int) -> Path:
    low_rank_file(file, recipe, seed=seed)
    weights = load_file(file)
    for name in matrices().values():
        rows = recipe.tensors[f"{name}.weight"].shape[0]
        weights[f"transformer.{name}.lora_magnitude_vector"] = torch.rand(rows) + 0.5
    save_file(weights, file)
    return file


def small_file(file: Path, modules: Mapping[str, tuple[int, int]]) -> Path:
    weights: dict[str, Tensor] = {}
    for module, (out, into) in modules.items():
        weights[f"{module}.lora_A.weight"] = torch.ones(2, into)
        weights[f"{module}.lora_B.weight"] = torch.ones(out, 2)
    save_file(weights, file)
    return file


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_high_lora_leaves_low_expert_unchanged(model: WanModel, file: Path) -> None:
    changed = model.with_lora(file, 1.0, "high")
    assert changed.experts["low"] is model.experts["low"]
    assert same(made(changed.experts["low"]), made(model.experts["low"]))
    assert not same(made(changed.experts["high"]), made(model.experts["high"]))


def test_low_lora_leaves_high_expert_unchanged(model: WanModel, file: Path) -> None:
    changed = model.with_lora(file, 1.0, "low")
    assert changed.experts["high"] is model.experts["high"]
    assert not same(made(changed.experts["low"]), made(model.experts["low"]))


def test_both_is_high_and_low(model: WanModel, file: Path) -> None:
    both = model.with_lora(file, 0.3, "both")
    each = model.with_lora(file, 0.3, "high").with_lora(file, 0.3, "low")
    assert both.experts == each.experts
    assert [report.expert for report in both.loras] == ["high", "low"]


@pytest.mark.parametrize("transformer", ["high", "low", "both"])
def test_a_single_expert_takes_every_choice(model: WanModel, file: Path, transformer: str) -> None:
    single = replace(model, experts=MappingProxyType({"high": model.experts["high"]}))
    changed = single.with_lora(file, 1.0, transformer)
    assert [report.expert for report in changed.loras] == ["high"]
    assert changed.experts["high"] == model.with_lora(file, 1.0, "high").experts["high"]


def test_a_file_that_names_its_experts_gives_each_its_own(
    tmp_path: Path, model: WanModel, recipe: Recipe
) -> None:
    weights: dict[str, Tensor] = {}
    for prefix, seed in (("transformer.", 5), ("transformer_2.", 6)):
        low_rank_file(tmp_path / f"{seed}.safetensors", recipe, seed=seed)
        for key, tensor in load_file(tmp_path / f"{seed}.safetensors").items():
            weights[key.replace("transformer.", prefix)] = tensor
    save_file(weights, tmp_path / "pair.safetensors")
    changed = model.with_lora(tmp_path / "pair.safetensors", 1.0, "both")
    for expert, seed in (("high", 5), ("low", 6)):
        alone = model.with_lora(tmp_path / f"{seed}.safetensors", 1.0, expert)
        assert same(made(changed.experts[expert]), made(alone.experts[expert]))
    assert [report.coverage.share for report in changed.loras] == [1.0, 1.0]


def test_a_file_for_the_low_expert_alone_is_refused_on_the_high_one(tmp_path: Path, model: WanModel) -> None:
    file = small_file(tmp_path / "a.safetensors", {f"transformer_2.{Q}": (24, 24)})
    assert model.with_lora(file, 1.0, "low").loras[0].coverage.tensors == 1
    with pytest.raises(
        LoraError, match=r"high-noise expert: no key is for this expert.* for the low-noise expert"
    ):
        model.with_lora(file, 1.0, "high")


@pytest.mark.parametrize("write", [low_rank_file, dora_file], ids=["LoRA", "DoRA"])
def test_the_order_of_loras_does_not_matter_to_a_bit(tmp_path: Path, recipe: Recipe, write: Any) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "cab"]
    for seed, file in enumerate(files):
        write(file, recipe, seed=seed)
    results = []
    for order in itertools.permutations(zip(files, (0.3, -0.5, 1.1), strict=True)):
        current = recipe
        for file, strength in order:
            current = attach_lora(current, read_lora(file), strength, "high")[0]
        results.append(made(current))
    assert all(same(result, results[0]) for result in results)


def test_strength_zero_is_no_lora_at_all_and_is_reported(model: WanModel, file: Path, tmp_path: Path) -> None:
    for zero in (file, dora_file(tmp_path / "dora.safetensors", model.experts["high"], 3)):
        attached = model.with_lora(zero, 0.0, "high")
        assert attached.experts == model.experts
        assert same(made(attached.experts["high"]), made(model.experts["high"]))
        (report,) = attached.loras
        assert report.coverage.tensors == len(matrices())
        assert "strength 0: no effect" in report.text()


def test_the_report_says_what_a_strength_means_to_dora(model: WanModel, file: Path, tmp_path: Path) -> None:
    dora = dora_file(tmp_path / "dora.safetensors", model.experts["high"], 3)
    assert (
        "from the base weight (0) to the trained weight (1)"
        in model.with_lora(dora, 0.5, "low").loras[0].text()
    )
    assert "DoRA" not in model.with_lora(file, 0.5, "low").loras[0].text()


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
def test_a_scale_that_is_no_number_is_refused(model: WanModel, file: Path, scale: float) -> None:
    with pytest.raises(LoraError, match=r"style\.safetensors: scale"):
        model.with_lora(file, scale, "high")


class CountingFiles(Files):
    """Counts what is read from one file."""

    def __init__(self, counted: Path) -> None:
        super().__init__(CPU)
        self.counted, self.reads = counted, Counter[str]()

    def read(self, file: Path, key: str) -> Tensor:
        if file == self.counted:
            self.reads[key] += 1
        return super().read(file, key)


def test_a_file_is_parsed_once_and_each_tensor_read_once_per_expert(recipe: Recipe, file: Path) -> None:
    keys = load_file(file).keys()
    lora = read_lora(file)
    kept = file.rename(file.with_name("kept.safetensors"))
    attached = [attach_lora(recipe, lora, 1.0, expert)[0] for expert in ("high", "low")]
    kept.rename(file)
    for current in attached:
        with CountingFiles(file) as files:
            for tensor in current.tensors.values():
                tensor.compute(files)
        assert files.reads == Counter(keys)


def test_most_of_a_file_must_fit_unless_the_user_allows_less(tmp_path: Path, model: WanModel) -> None:
    modules = {Q: (24, 24), "blocks.1.attn1.to_q": (24, 24), "blocks.8.attn1.to_q": (24, 24)}
    file = small_file(tmp_path / "a.safetensors", modules)
    with pytest.raises(LoraError, match=r"only 67% of its keys fit the high-noise expert.*blocks\.8.*allow"):
        model.with_lora(file, 1.0, "high")
    (report,) = model.with_lora(file, 1.0, "high", allow_partial=True).loras
    assert (report.coverage.tensors, len(report.coverage.unmatched)) == (2, 2)


def test_a_few_keys_without_a_place_are_reported_and_not_fatal(tmp_path: Path, model: WanModel) -> None:
    fitting = {f"blocks.{i}.attn1.to_{part}": (24, 24) for i in range(2) for part in "qkv"}
    file = small_file(tmp_path / "a.safetensors", {**fitting, "blocks.9.attn1.to_q": (24, 24)})
    (report,) = model.with_lora(file, 1.0, "high").loras
    assert report.coverage.unmatched == tuple(f"blocks.9.attn1.to_q.lora_{side}.weight" for side in "AB")
    assert "2 keys not in this model" in report.text()


@pytest.mark.parametrize(
    ("module", "network"),
    [
        ("diffusion_model.vace_blocks.{}.self_attn.q", "VACE"),
        ("lora_unet_vace_blocks_{}_self_attn_q", "VACE"),
        ("text_encoder.encoder.block.{}.layer.0.SelfAttention.q", "the text encoder"),
        ("lora_te_encoder_block_{}_layer_0_SelfAttention_q", "the text encoder"),
        ("umt5.encoder.block.{}.layer.0.SelfAttention.q", "the text encoder"),
        ("lora_t5_xxl_encoder_block_{}_layer_0_SelfAttention_q", "the text encoder"),
    ],
)
def test_keys_of_another_network_are_told_and_do_not_count(
    tmp_path: Path, model: WanModel, module: str, network: str
) -> None:
    others = {module.format(index): (24, 24) for index in range(9)}
    file = small_file(tmp_path / "a.safetensors", {Q: (24, 24), **others})
    (report,) = model.with_lora(file, 1.0, "high").loras
    assert (report.coverage.share, report.coverage.unmatched) == (1.0, ())
    assert report.as_dict()["keys"]["other_networks"] == {network: 18}
    assert f"18 keys of {network}, which have no effect here, such as {module.format(0)}" in report.text()
    with pytest.raises(LoraError, match=f"none of its keys fits.*18 keys of {network}"):
        model.with_lora(small_file(tmp_path / "b.safetensors", others), 1.0, "high", allow_partial=True)


def test_each_half_of_a_combined_file_goes_to_its_expert(tmp_path: Path, model: WanModel) -> None:
    """As ai-toolkit writes it: transformer_1 is the high-noise expert."""
    weights, added = {}, {}
    for number, expert in (("1", "high"), ("2", "low")):
        down, up = torch.randn(2, 24), torch.randn(24, 2)
        module = f"diffusion_model.transformer_{number}.blocks.0.attn1.to_q"
        weights |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
        added[expert] = up.double().numpy() @ down.double().numpy()
    save_file(weights, tmp_path / "a.safetensors")
    changed = model.with_lora(tmp_path / "a.safetensors", 1.0, "both")
    assert [(report.expert, report.coverage.share) for report in changed.loras] == [("high", 1), ("low", 1)]
    for expert, recipe in changed.experts.items():
        before = stored(model.experts[expert])["blocks.0.attn1.to_q.weight"]
        assert difference(made(recipe)["blocks.0.attn1.to_q.weight"], before + added[expert]) <= 1e-6


def test_a_file_of_only_the_first_half_has_nothing_for_the_low_expert(
    tmp_path: Path, model: WanModel
) -> None:
    file = small_file(tmp_path / "a.safetensors", {"transformer_1.blocks.0.attn1.to_q": (24, 24)})
    with pytest.raises(LoraError, match=r"no key is for this expert.*for the high-noise expert"):
        model.with_lora(file, 1.0, "low")


def test_a_lora_of_another_model_is_refused_with_both_shapes(tmp_path: Path, model: WanModel) -> None:
    file = small_file(tmp_path / "a.safetensors", {Q: (5120, 5120)})
    for allowed in (False, True):
        with pytest.raises(LoraError, match=r"5120x5120, the model has 24x24.*made for Wan 14B"):
            model.with_lora(file, 1.0, "high", allow_partial=allowed)


def test_keys_of_the_image_path_are_reported_and_never_fatal(tmp_path: Path, model: WanModel) -> None:
    image = {f"blocks.0.cross_attn.{part}_img": (24, 24) for part in "kv"}
    file = small_file(tmp_path / "a.safetensors", {Q: (24, 24), **image, "img_emb.proj.1": (24, 24)})
    save_file({**load_file(file), "img_emb.emb_pos.diff": torch.ones(1, 514, 12)}, file)
    (report,) = model.with_lora(file, 1.0, "high").loras
    assert (report.coverage.share, len(report.coverage.image_path)) == (1.0, 7)
    assert "7 keys of the image encoder path of Wan 2.1" in report.text()


def test_keys_of_the_image_path_are_used_where_there_is_one(tmp_path: Path) -> None:
    recipe = tiny_expert(tmp_path, image_dim=12, added_kv_proj_dim=24, in_channels=36)
    modules = {
        "blocks.0.cross_attn.k_img": (24, 24),
        "blocks.1.cross_attn.v_img": (24, 24),
        "img_emb.proj.3": (24, 12),
    }
    file = small_file(tmp_path / "a.safetensors", modules)
    merged, report = attach_lora(recipe, read_lora(file), 1.0, "high")
    plain, changed = made(recipe), made(merged)
    different = {name for name in plain if not torch.equal(plain[name], changed[name])}
    assert different == {
        "blocks.0.attn2.add_k_proj.weight",
        "blocks.1.attn2.add_v_proj.weight",
        "condition_embedder.image_embedder.ff.net.2.weight",
    }
    assert report.coverage.image_path == ()


def test_an_image_to_video_lora_runs_on_text_to_video_without_its_patch_embedding(
    tmp_path: Path, model: WanModel
) -> None:
    weights = {
        "patch_embedding.lora_A.weight": torch.ones(2, 36, 1, 2, 2),
        "patch_embedding.lora_B.weight": torch.ones(24, 2, 1, 1, 1),
    }
    fitting = {f"blocks.{i}.attn1.to_{part}": (24, 24) for i in range(2) for part in "qkv"}
    file = small_file(tmp_path / "a.safetensors", fitting)
    save_file({**load_file(file), **weights}, file)
    (report,) = model.with_lora(file, 1.0, "high").loras
    (misfit,) = report.coverage.misfits
    assert str(misfit) == "patch_embedding.lora_A.weight has shape 24x144, the model has 24x64"
    assert (report.facts.base.task, report.coverage.misfit_keys) == ("I2V", 2)


def test_two_loras_of_one_name_have_two_hashes(model: WanModel, tmp_path: Path) -> None:
    for index, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        low_rank_file(tmp_path / folder / "l.safetensors", model.experts["high"], seed=index)
    changed = model.with_lora(tmp_path / "one" / "l.safetensors", 1.0, "high")
    hashes = changed.with_lora(tmp_path / "two" / "l.safetensors", 1.0, "low").hashes()
    assert hashes["loras[0]/l.safetensors"] != hashes["loras[1]/l.safetensors"]


class CountingOperations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def forward(recipe: Recipe) -> tuple[Counter[str], Tensor]:
    """The operations of one forward pass, those of the reader beside it left out, and what came of it."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 1, 4, 4, generator=generator)
    condition = Condition(torch.randn(1, 6, 8, generator=generator))
    memory = DeviceMemory("cpu")
    recipes = {"high": recipe}
    residency, forwards = resident(recipes), ("high",)
    with Executor(
        recipes, torch.float32, memory, lambda: None, residency=residency, forwards=forwards
    ) as experts:
        engine = experts.use("high")
        with CountingOperations() as counting:  # of this thread
            velocity = engine.predict(latents, 500.0, condition)
    return counting.counts, velocity


def test_a_forward_pass_does_not_know_of_loras(tmp_path: Path, model: WanModel) -> None:
    changed = model
    for index, dialect in enumerate(DIALECTS[:3]):
        low_rank_file(tmp_path / f"{index}.safetensors", model.experts["high"], dialect, seed=index)
        changed = changed.with_lora(tmp_path / f"{index}.safetensors", 0.01, "high")
    dora_file(tmp_path / "dora.safetensors", model.experts["high"], 9)
    changed = changed.with_lora(tmp_path / "dora.safetensors", 0.01, "high")
    plain, before = forward(model.experts["high"])
    counts, after = forward(changed.experts["high"])
    assert counts == plain
    assert sum(plain.values()) > 100
    assert not torch.equal(before, after)


def test_three_runs_in_a_row_leave_nothing_behind(model: WanModel, file: Path) -> None:
    def tensors() -> list[Tensor]:
        return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]

    def left_behind() -> int:
        before = tensors()  # held, so that no new one takes the place of one that other tests left
        known = {id(tensor) for tensor in before}
        forward(model.with_lora(file, 0.5, "both").experts["high"])
        gc.collect()
        return sum(id(tensor) not in known for tensor in tensors())

    assert [left_behind() for _ in range(3)] == [0, 0, 0]


def test_materialising_leaves_the_mapped_files_as_they_are(tmp_path: Path, recipe: Recipe) -> None:
    """A difference in float32 is the mapped file itself until somebody writes to it."""
    file = tmp_path / "a.safetensors"
    save_file({f"{Q}.diff": torch.ones(24, 24)}, file)
    merged = attach_lora(recipe, read_lora(file), -2.0, "high")[0]
    before, weights = file.read_bytes(), recipe.files[0].read_bytes()
    network = meta_expert(merged)
    for _ in range(2):
        materialise(merged, network, CPU, lambda _: torch.float32, lambda: None)
        assert torch.equal(network.blocks[0].attn1.to_q.weight, made(recipe)[f"{Q}.weight"] - 2)
    assert (file.read_bytes(), recipe.files[0].read_bytes()) == (before, weights)
