"""Which kernels a device gets: a table of facts and choices, and what is tried before one is believed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from wan_duet.pipelines.errors import ModelError, is_out_of_memory
from wan_duet.pipelines.kernels import attention as attention_module
from wan_duet.pipelines.kernels import kernel_trials as kernel_trials_module
from wan_duet.pipelines.kernels.attention import attention_candidates, fills_tiles, why_not
from wan_duet.pipelines.kernels.choices import (
    FloatChoices,
    KernelChoice,
    Preferences,
)
from wan_duet.pipelines.kernels.kernel_names import KERNELS
from wan_duet.pipelines.kernels.kernel_trials import (
    Trials,
    kernel_candidates,
    operations_of,
    why_not_kernels,
)
from wan_duet.pipelines.kernels.trial import DeviceFacts, facts_of, remembered

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
HOPPER, BLACKWELL, DESKTOP = ("flash3", "cudnn", "flash2"), ("cudnn", "flash2"), ("flash2",)
FUSED, PLAIN = ("triton", "kitchen", "plain"), ("plain",)

# facts, dtype -> attention kernels before sdpa, element-wise work, whether cuDNN's keys are parted
TABLE = [
    (DeviceFacts("cpu"), FP32, (), PLAIN, False),
    (DeviceFacts("cpu"), BF16, (), PLAIN, False),
    (DeviceFacts("mps"), FP16, (), PLAIN, False),
    (DeviceFacts("xpu"), BF16, (), PLAIN, False),
    (DeviceFacts("privateuseone"), FP16, (), PLAIN, False),
    (DeviceFacts("cuda", (7, 5)), FP16, DESKTOP, FUSED, False),
    (DeviceFacts("cuda", (8, 6)), BF16, DESKTOP, FUSED, False),
    (DeviceFacts("cuda", (8, 9)), FP32, (), FUSED, False),
    (DeviceFacts("cuda", (9, 0)), BF16, HOPPER, FUSED, True),
    (DeviceFacts("cuda", (9, 0)), FP32, (), FUSED, True),
    (DeviceFacts("cuda", (10, 0)), BF16, BLACKWELL, FUSED, False),
    (DeviceFacts("cuda", (12, 0)), BF16, DESKTOP, FUSED, False),
    (DeviceFacts("cuda", None, hip=True), BF16, (), PLAIN, False),
]


@pytest.mark.parametrize(("facts", "dtype", "attentions", "kernels", "parted"), TABLE)
def test_what_is_tried_follows_from_the_facts_of_the_device(
    facts: DeviceFacts,
    dtype: torch.dtype,
    attentions: tuple[str, ...],
    kernels: tuple[str, ...],
    parted: bool,
) -> None:
    assert attention_candidates(facts, dtype) == attentions  # sage, which is lossy, nowhere
    assert kernel_candidates(facts) == kernels
    assert fills_tiles("cudnn", facts) is parted
    assert not fills_tiles("flash2", facts)


def machine(*broken: str, capability: tuple[int, int] = (9, 0), asked: list[object] | None = None) -> Trials:
    """A CUDA device on which everything runs but what is `broken`."""
    asked = [] if asked is None else asked

    def facts(device: torch.device) -> DeviceFacts:
        asked.append(device)
        return DeviceFacts("cuda", capability)

    def answer(name: str, device: torch.device, *others: object) -> str | None:
        del others
        asked.append(device)
        return f"no {name} here" if name in broken else None

    return Trials(facts, answer, answer, answer)


@pytest.mark.parametrize(
    ("broken", "attention", "kernels"),
    [
        ((), "flash3", "triton"),
        (("triton",), "flash3", "kitchen"),
        (("triton", "kitchen"), "flash3", "plain"),
        (("flash3",), "cudnn", "triton"),
        (("flash3", "cudnn"), "flash2", "triton"),
        (("flash3", "cudnn", "flash2"), "sdpa", "triton"),
    ],
)
def test_the_first_that_runs_is_taken_and_the_others_say_why(
    broken: tuple[str, ...], attention: str, kernels: str
) -> None:
    asked: list[object] = []
    granted = Preferences().resolve(CUDA, BF16, trials=machine(*broken, asked=asked))
    assert (granted.attention, granted.kernels) == (attention, kernels)
    assert dict(granted.refused) == {name: f"no {name} here" for name in broken if name in KERNELS}
    assert all(f"{name}: no {name} here" in granted.text() for name in granted.refused)
    assert set(asked) == {CUDA}  # the device of the run, whichever is the current one


def test_a_wish_for_kernels_is_granted_or_refused_with_its_reason() -> None:
    assert Preferences(kernels="plain").resolve(CUDA, BF16, trials=machine()).kernels == "plain"
    assert Preferences(kernels="kitchen").resolve(CUDA, BF16, trials=machine("triton")).kernels == "kitchen"
    with pytest.raises(ModelError, match="kernels: triton does not run on cuda:1 here: no triton here"):
        Preferences(kernels="triton").resolve(CUDA, BF16, trials=machine("triton"))


@pytest.mark.parametrize(
    "use",
    [
        lambda name: Preferences(kernels=name),
        lambda name: FloatChoices(kernels=name),
        KernelChoice,
        operations_of,
    ],
)
def test_kernels_that_do_not_exist_are_refused_wherever_they_are_named(use: Callable[[str], object]) -> None:
    with pytest.raises(ModelError, match="kernels: 'cutlass' is unknown; give one of plain, kitchen, triton"):
        use("cutlass")


@pytest.mark.parametrize("kind", ["cpu", "mps", "privateuseone"])
def test_triton_on_a_device_that_it_has_nothing_for_is_refused_in_words(kind: str) -> None:
    words = "triton computes only on GPUs of NVIDIA, AMD and Intel"
    assert why_not_kernels("triton", torch.device(kind), FP32) == words


def without(broken_dtype: torch.dtype) -> Trials:
    """A CUDA device on which triton fails in one dtype."""

    def kernels(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
        return "no compiler" if (name, dtype) == ("triton", broken_dtype) else None

    return Trials(lambda _: DeviceFacts("cuda", (8, 6)), lambda *_: None, kernels, lambda *_: None)


def test_the_vae_falls_back_where_the_kernels_of_the_experts_do_not_run_in_its_dtype() -> None:
    automatic = Preferences()
    assert automatic.resolve(CUDA, BF16, trials=without(FP32)).kernels == "triton"
    chosen = automatic.vae_kernels_on(CUDA, FP32, trials=without(FP32))
    assert (chosen.kernels, chosen.refused) == ("kitchen", {"triton": "no compiler"})
    assert chosen.text() == "kitchen kernels (not triton: no compiler)"


def test_kernels_that_somebody_chose_are_a_demand_for_the_vae_too() -> None:
    wanted = Preferences(kernels="triton")
    assert wanted.vae_kernels_on(CUDA, BF16, trials=without(FP32)) == KernelChoice("triton")
    with pytest.raises(ModelError, match="kernels: triton does not run on cuda:1 here: no compiler"):
        wanted.vae_kernels_on(CUDA, FP32, trials=without(FP32))


def test_what_was_decided_for_the_vae_stands_with_its_reasons_while_it_runs() -> None:
    decided = KernelChoice("kitchen", {"triton": "out of memory"})
    again = Preferences(kernels="triton", vae=decided).vae_kernels_on(CUDA, FP32, trials=machine())
    assert again is decided
    with pytest.raises(ModelError, match="kernels: kitchen does not run on cuda:1"):
        Preferences(vae=decided).vae_kernels_on(CUDA, FP32, trials=machine("kitchen"))


def test_choices_of_a_receipt_are_wishes_again() -> None:
    granted = Preferences().resolve(CUDA, BF16, trials=machine("triton", "flash3"))
    again = Preferences(**granted.as_dict()).resolve(CUDA, BF16, trials=machine("triton", "flash3"))
    assert granted == again
    assert again.kernels == "kitchen"
    with pytest.raises(ModelError, match="kernels: kitchen does not run"):
        Preferences(**granted.as_dict()).resolve(CUDA, BF16, trials=machine("triton", "kitchen"))


def test_facts_of_a_device_without_cuda_are_its_name() -> None:
    assert facts_of(CPU) == DeviceFacts("cpu")
    assert facts_of(torch.device("meta")) == DeviceFacts("meta")


@pytest.mark.parametrize(
    ("hip", "facts"), [(None, DeviceFacts("cuda", (8, 6))), ("6.4", DeviceFacts("cuda", None, hip=True))]
)
def test_facts_of_a_card_are_its_capability_unless_it_is_of_amd(
    monkeypatch: pytest.MonkeyPatch, hip: str | None, facts: DeviceFacts
) -> None:
    cards = {0: (9, 0), 1: (8, 6)}
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: cards[device.index])
    assert facts_of(CUDA) == facts


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),  # Windows
        RuntimeError(
            "Could not allocate tensor with 8 bytes. There is not enough GPU video memory available!"
        ),
        RuntimeError("Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_an_attempt_that_met_a_full_memory_is_made_again(error: Exception) -> None:
    errors = [error]

    @remembered
    def attempt(name: str) -> str | None:
        del name
        if errors:
            raise errors.pop()
        return None

    assert is_out_of_memory(error)
    assert attempt("any") is not None
    assert attempt("any") is None


def test_an_attempt_that_failed_for_another_reason_is_made_once() -> None:
    made: list[str] = []

    @remembered
    def attempt(name: str) -> str | None:
        made.append(name)
        raise FileNotFoundError("Failed to find C compiler.\nmore about it")

    assert [attempt("a"), attempt("a"), attempt("b")] == ["Failed to find C compiler."] * 3
    assert made == ["a", "b"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Installs a package of one module for the time of a test."""

    def forget() -> None:
        attention_module._made.cache_clear()
        kernel_trials_module._made.cache_clear()

    def install(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        sys.modules.pop(name, None)

    forget()
    monkeypatch.syspath_prepend(tmp_path)
    yield install
    forget()
    for name in ("sageattention", "comfy_kitchen"):
        sys.modules.pop(name, None)


FULL_ONCE = """
import torch
full = [torch.cuda.OutOfMemoryError("CUDA out of memory")]
def {function}(*arguments, **options):
    if full:
        raise full.pop()
    return {answer}
"""


def test_an_attention_kernel_that_met_a_full_memory_is_tried_again(
    package: Callable[[str, str], None],
) -> None:
    package("sageattention", FULL_ONCE.format(function="sageattn", answer="arguments[2]"))
    width = 24  # of no other test: what was tried is remembered by it
    assert why_not("sage", CPU, FP32, width) == "CUDA out of memory"
    assert why_not("sage", CPU, FP32, width) is None


ROTATED = "(arguments[1] * arguments[0].float().unflatten(-1, (-1, 1, 2))).sum(-1).flatten(-2)"


def test_kernels_that_met_a_full_memory_are_tried_again(package: Callable[[str, str], None]) -> None:
    package("comfy_kitchen", FULL_ONCE.format(function="apply_rope1", answer=ROTATED))
    assert why_not_kernels("kitchen", CPU, FP16) == "CUDA out of memory"
    assert why_not_kernels("kitchen", CPU, FP16) is None
    assert Preferences(kernels="kitchen").resolve(CPU, FP16).kernels == "kitchen"


def test_kernels_that_give_wrong_numbers_do_not_run(package: Callable[[str, str], None]) -> None:
    package("comfy_kitchen", "def apply_rope1(heads, table): return heads")
    assert why_not_kernels("kitchen", CPU, BF16) == "norm with rotation gives wrong results"


def test_what_was_refused_does_not_make_choices_unlike() -> None:
    assert FloatChoices(refused={"triton": "old"}) == FloatChoices()
    assert hash(FloatChoices(refused={"triton": "old"})) == hash(FloatChoices())
    assert "refused" not in FloatChoices(refused={"triton": "old"}).as_dict()
