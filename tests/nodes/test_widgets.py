"""Request fields become widgets, and their settings become fields again."""

from __future__ import annotations

import pytest

from wan_duet.nodes.widgets import PROVIDER_DEFAULT, TEXT_TO_VIDEO, chosen, widgets
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import KINDS, WanLoRAT2VRequest, WanT2VRequest, t2v_request

TABLE = {widget.name: widget for widget in widgets("text-to-video", TEXT_TO_VIDEO)}


def settings(**changed: object) -> dict[str, object]:
    """What the node gets when the user changed only these widgets."""
    return {**{name: widget.default for name, widget in TABLE.items()}, "prompt": "a ball", **changed}


def test_every_field_of_the_task_has_a_widget_but_the_lora_list() -> None:
    fields = {name for cls in KINDS.values() if cls.task == "text-to-video" for name in cls.model_fields}
    assert set(TEXT_TO_VIDEO) == fields - {"loras"}


def test_widgets_are_in_the_order_that_saved_workflows_know() -> None:
    assert tuple(TABLE) == TEXT_TO_VIDEO


def test_untouched_widgets_are_the_default_request() -> None:
    made = t2v_request(**chosen(settings()))
    assert made == WanT2VRequest(prompt="a ball", seed=0)


def test_range_is_the_widest_of_all_kinds() -> None:
    assert (TABLE["num_frames"].min, TABLE["num_frames"].max) == (17, 161)


def test_seed_fits_the_generator() -> None:
    assert (TABLE["seed"].default, TABLE["seed"].min, TABLE["seed"].max) == (0, 0, 2**64 - 1)


@pytest.mark.parametrize(
    "field", ["enable_safety_checker", "enable_output_safety_checker", "enable_prompt_expansion"]
)
@pytest.mark.parametrize(("setting", "value"), [(PROVIDER_DEFAULT, None), ("on", True), ("off", False)])
def test_switch_can_be_left_to_the_provider(field: str, setting: str, value: bool | None) -> None:
    assert TABLE[field].options == (PROVIDER_DEFAULT, "on", "off")
    made = t2v_request(**chosen(settings(**{field: setting})))
    assert getattr(made, field) is value
    assert (field in made.payload()) == (value is not None)


def test_a_prompt_that_reads_like_a_setting_stays_a_prompt() -> None:
    assert chosen(settings(prompt=PROVIDER_DEFAULT))["prompt"] == PROVIDER_DEFAULT
    assert chosen(settings(prompt="on"))["prompt"] == "on"


def test_reverse_selects_the_lora_contract_and_changes_nothing_else() -> None:
    plain, reversed_ = (t2v_request(**chosen(settings(reverse_video=value))) for value in ("off", "on"))
    assert type(plain) is WanT2VRequest
    assert type(reversed_) is WanLoRAT2VRequest
    assert reversed_.payload() == {**plain.payload(), "reverse_video": True}


def test_empty_prompt_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"^prompt: "):
        t2v_request(**chosen(settings(prompt="")))


def test_every_widget_says_what_it_is_for() -> None:
    assert all(widget.tooltip for widget in TABLE.values())
