"""What `auto` stands for on every kind of device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wan_duet.pipelines.device.memory import DeviceMemory, compute_dtype
from wan_duet.pipelines.device.precision import (
    RULES,
    DeviceCapabilities,
    Rule,
    capabilities_of,
    native_precision,
    torch_dtype,
)

TABLE = [
    (DeviceCapabilities("cpu"), "fp32"),
    (DeviceCapabilities("cuda", (5, 2)), "fp16"),
    (DeviceCapabilities("cuda", (6, 1)), "fp16"),
    (DeviceCapabilities("cuda", (7, 0)), "fp16"),
    (DeviceCapabilities("cuda", (7, 5)), "fp16"),  # torch emulates bfloat16 there, many times slower
    (DeviceCapabilities("cuda", (8, 0)), "bf16"),
    (DeviceCapabilities("cuda", (8, 6)), "bf16"),
    (DeviceCapabilities("cuda", (9, 0)), "bf16"),
    (DeviceCapabilities("cuda", (12, 0)), "bf16"),
    (DeviceCapabilities("cuda", (9, 0), "gfx906:sramecc+:xnack-"), "fp16"),
    (DeviceCapabilities("cuda", (9, 0), "gfx90a:sramecc+:xnack-"), "bf16"),
    (DeviceCapabilities("cuda", (9, 4), "gfx942"), "bf16"),
    (DeviceCapabilities("cuda", (10, 3), "gfx1030"), "fp16"),
    (DeviceCapabilities("cuda", (11, 0), "gfx1100"), "bf16"),
    (DeviceCapabilities("mps", bf16=True), "bf16"),
    (DeviceCapabilities("mps", bf16=False), "fp16"),
    (DeviceCapabilities("xpu", bf16=True), "bf16"),
    (DeviceCapabilities("xpu", bf16=False), "fp16"),
    (DeviceCapabilities("privateuseone"), "fp16"),
    (DeviceCapabilities("something new"), "fp32"),
]


@pytest.mark.parametrize(("capabilities", "precision"), TABLE, ids=str)
def test_a_device_computes_in_what_it_does_without_emulation(
    capabilities: DeviceCapabilities, precision: str
) -> None:
    assert native_precision(capabilities) == precision


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.device)
def test_a_rule_decides_for_its_own_example(rule: Rule) -> None:
    assert next(one for one in RULES if one.applies(rule.example)) is rule


def test_a_card_is_asked_about_itself_and_not_about_what_torch_emulates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards = {0: (9, 0), 1: (7, 5)}
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: cards[device.index])
    said = [capabilities_of(torch.device("cuda", index)) for index in cards]
    assert said == [DeviceCapabilities("cuda", (9, 0)), DeviceCapabilities("cuda", (7, 5))]
    assert [native_precision(one) for one in said] == ["bf16", "fp16"]


def test_an_amd_card_is_known_by_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (10, 3))
    said = SimpleNamespace(gcnArchName="gfx1030")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: said)
    assert capabilities_of(torch.device("cuda", 0)) == DeviceCapabilities("cuda", (10, 3), "gfx1030")


@pytest.mark.parametrize(
    ("macos", "has"), [((12, 6), False), ((13, 7), False), ((14, 0), True), ((26, 1), True)]
)
def test_metal_has_bfloat16_from_macos_14_on(
    monkeypatch: pytest.MonkeyPatch, macos: tuple[int, int], has: bool
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: macos >= version)
    assert capabilities_of(torch.device("mps")).bf16 is has


@pytest.mark.parametrize("new", [True, False])
def test_intel_cards_are_asked_for_bfloat16(monkeypatch: pytest.MonkeyPatch, new: bool) -> None:
    said = SimpleNamespace(has_bfloat16_conversions=new)
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device: said)
    assert capabilities_of(torch.device("xpu", 0)).bf16 is new


def test_a_chosen_precision_holds_on_every_device() -> None:
    memory = DeviceMemory("cpu")
    assert compute_dtype("fp16", memory, "vae") is torch.float16
    assert compute_dtype("auto", memory, "vae") is torch_dtype("fp32") is torch.float32
