"""The models that a user chooses beside the one that draws: a prompt expander and a safety checker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_companions as tiny

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import ModelError, RequestError, SafetyError
from wan_duet.pipelines.generate.local_abilities import local_abilities
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.generate.safety import check_prompt
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.networks.prompt_expander import INSTRUCTIONS, expand_prompt
from wan_duet.pipelines.networks.safety_checker import SafetyChecker
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import check, kinds_of, parse, t2v_request
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.output import sidecar

PROMPT = "a red ball on a white background"
IMAGE = {"prompt": PROMPT, "num_inference_steps": 2, "seed": 1}


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("language"))


def draw(model: WanModel, out: Path, kind: str = "text-to-image", **values: Any) -> Result:
    request = parse(kind, {**IMAGE, **values})
    return run(request, model, out=out, memory=DeviceMemory("cpu"), progress=Silent())


def expanded(folder: Path, task: str = "text-to-video", progress: Silent | None = None) -> str:
    return expand_prompt(folder, PROMPT, task, "auto", DeviceMemory("cpu"), progress or Silent())


def test_the_expanded_prompt_is_drawn_returned_and_recorded(
    toy: WanModel, tmp_path: Path, language: Path
) -> None:
    plain = draw(toy, tmp_path / "plain.png")
    made = draw(replace(toy, prompt_expander=language), tmp_path / "a.png", enable_prompt_expansion=True)
    assert made.prompt != PROMPT
    assert made.prompt == made.receipt["prompt"] == expanded(language, "text-to-image")
    assert made.receipt["request"]["prompt"] == PROMPT
    assert made.receipt["latents_sha256"] != plain.receipt["latents_sha256"]
    written = draw(toy, tmp_path / "written.png", prompt=made.prompt)
    assert made.receipt["latents_sha256"] == written.receipt["latents_sha256"]
    helper = made.receipt["prompt_expander"]
    assert helper["name"] == language.name
    assert all(value.startswith("sha256:") for value in helper["files"].values())


def test_a_receipt_is_repeated_with_its_prompt_and_without_the_language_model(
    toy: WanModel, tmp_path: Path, language: Path
) -> None:
    made = draw(replace(toy, prompt_expander=language), tmp_path / "a.png", enable_prompt_expansion=True)
    recorded = read_receipt(sidecar(made.path))
    again = repeat(recorded, toy, out=tmp_path / "b.png", memory=DeviceMemory("cpu"), progress=Silent())
    assert again.prompt == made.prompt
    assert again.path.read_bytes()[-500:] == made.path.read_bytes()[-500:]


def test_an_expander_that_nobody_asked_for_changes_nothing(
    toy: WanModel, tmp_path: Path, language: Path
) -> None:
    made = draw(replace(toy, prompt_expander=language), tmp_path / "a.png")
    assert made.prompt == PROMPT
    assert "prompt_expander" not in made.receipt


@pytest.mark.parametrize(
    ("switch", "flag"),
    [
        ("enable_prompt_expansion", "--prompt-expander"),
        ("enable_safety_checker", "--safety-checker"),
        ("enable_output_safety_checker", "--safety-checker"),
    ],
)
def test_a_switch_without_its_model_says_how_to_choose_one(
    toy: WanModel, tmp_path: Path, switch: str, flag: str
) -> None:
    with pytest.raises(RequestError, match=f"{switch}.*Wan Duet (Prompt Expander|Safety Checker).*{flag}"):
        draw(toy, tmp_path / "a.png", **{switch: True})
    assert list(tmp_path.iterdir()) == []


def test_the_check_knows_what_was_chosen(toy: WanModel, tmp_path: Path) -> None:
    chosen = replace(toy, prompt_expander=tmp_path, safety_checker=tmp_path)
    request = parse(
        "text-to-image", {**IMAGE, "enable_prompt_expansion": True, "enable_safety_checker": True}
    )
    assert not check(request, family=toy.family, abilities=local_abilities(Interpolators(), toy)).ok
    assert check(request, family=toy.family, abilities=local_abilities(Interpolators(), chosen)).ok


def test_every_task_that_can_be_expanded_has_an_instruction_of_its_own() -> None:
    assert len(set(INSTRUCTIONS.values())) == len(INSTRUCTIONS) == 5
    assert all(kinds_of(task) for task in INSTRUCTIONS)


def test_the_instruction_and_the_prompt_reach_the_model(tmp_path: Path) -> None:
    """A template that drops the prompt makes every answer the same; ours must not be."""
    folder = tiny.language_model(tmp_path / "model")
    assert expanded(folder, "text-to-video") == expanded(folder, "text-to-video")
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    rest = "{{ messages[0]['content'] }}"
    without_system = tiny.language_model(tmp_path / "other", template=template + rest)
    assert expanded(without_system)


def test_a_model_that_is_no_instruct_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="chat template"):
        expanded(tiny.language_model(tmp_path, template=None))


@pytest.mark.parametrize("content", [{}, {"config.json": "{}", "pytorch_model.bin": "pickle"}])
def test_a_folder_without_safe_weights_is_refused(tmp_path: Path, content: Mapping[str, str]) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match="safetensors"):
        expanded(tmp_path)
    with pytest.raises(ModelError, match=r"safetensors|holds no"):
        SafetyChecker(tmp_path)


def test_stop_is_heard_between_two_words(language: Path) -> None:
    class StopLater(Silent):
        words = 0

        def advance(self, done: int, preview: object = None) -> None:
            self.words = done

        def check(self) -> None:
            if self.words >= 3:
                raise KeyboardInterrupt

    progress = StopLater()
    with pytest.raises(KeyboardInterrupt):
        expanded(language, progress=progress)
    assert progress.words == 3


def both(folder: Path, *, text: bool = False, image: bool = False) -> Path:
    """A checker of both; text, image: what it flags."""
    tiny.text_classifier(folder / "text", flags=text)
    tiny.image_classifier(folder / "image", flags=image)
    return folder


def test_what_is_not_flagged_is_made_and_the_receipt_names_the_checker(toy: WanModel, tmp_path: Path) -> None:
    model = replace(toy, safety_checker=both(tmp_path / "checker"))
    made = draw(model, tmp_path / "a.png", enable_safety_checker=True, enable_output_safety_checker=True)
    assert made.path.exists()
    assert set(made.receipt["safety_checker"]) == {"text", "image"}


def test_a_flagged_prompt_stops_the_run_and_nothing_is_written(toy: WanModel, tmp_path: Path) -> None:
    model = replace(toy, safety_checker=both(tmp_path / "checker", text=True))
    with pytest.raises(SafetyError, match="prompt: flagged as unsafe"):
        draw(model, tmp_path / "out" / "a.png", enable_safety_checker=True)
    assert not (tmp_path / "out").exists()
    assert draw(model, tmp_path / "b.png", enable_output_safety_checker=True).path.exists()


def test_the_prompt_is_checked_alone_and_with_the_words_of_each_range(tmp_path: Path) -> None:
    class Reading(SafetyChecker):
        def read(self, text: str, where: str) -> None:
            found[where] = text

    found: dict[str, str] = {}
    local = {"prompt_ranges": "moving up | spinning"}
    request = t2v_request(prompt="a ball", enable_safety_checker=True, local=local)
    check_prompt(Reading(both(tmp_path)), request, "a red ball")
    assert found == {
        "prompt": "a red ball",
        "local.prompt_ranges[0].prompt": "a red ball moving up",
        "local.prompt_ranges[1].prompt": "a red ball spinning",
    }


def test_a_flagged_input_stops_the_run(toy: WanModel, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    picture.write_bytes(image_bytes(np.zeros((40, 60, 3), np.uint8), "png", {}))
    values = {"image_url": str(picture), "strength": 0.5}
    model = replace(toy, safety_checker=both(tmp_path / "checker", image=True))
    with pytest.raises(SafetyError, match="image_url: flagged as nsfw"):
        draw(model, tmp_path / "a.jpg", "image-to-image", enable_safety_checker=True, **values)
    assert draw(model, tmp_path / "b.jpg", "image-to-image", **values).path.exists()


@pytest.mark.parametrize(("kind", "out"), [("text-to-image", "a.png"), ("text-to-video", "a.mp4")])
def test_a_flagged_result_leaves_nothing_not_even_latents(
    toy: WanModel, tmp_path: Path, kind: str, out: str
) -> None:
    model = replace(toy, safety_checker=tiny.image_classifier(tmp_path / "checker", flags=True))
    with pytest.raises(SafetyError, match="the result, frame 0: flagged as nsfw"):
        draw(model, tmp_path / "out" / out, kind, enable_output_safety_checker=True)
    assert not (tmp_path / "out").exists()


def test_a_checker_of_the_wrong_kind_is_no_pass(toy: WanModel, tmp_path: Path) -> None:
    model = replace(toy, safety_checker=tiny.image_classifier(tmp_path / "checker", flags=False))
    with pytest.raises(RequestError, match=r"enable_safety_checker: .* no classifier of texts"):
        draw(model, tmp_path / "a.png", enable_safety_checker=True)


def test_labels_that_say_nothing_need_to_be_told(tmp_path: Path) -> None:
    folder = tiny.text_classifier(tmp_path, flags=True, labels=("LABEL_0", "LABEL_1"))
    with pytest.raises(ModelError, match=r"LABEL_0, LABEL_1.*wan_duet\.json"):
        SafetyChecker(folder).read("a ball", "prompt")
    settings = folder / "wan_duet.json"
    settings.write_text(json.dumps({"unsafe": ["LABEL_1"]}))
    with pytest.raises(SafetyError, match="flagged as LABEL_1"):
        SafetyChecker(folder).read("a ball", "prompt")
    settings.write_text(json.dumps({"unsafe": ["LABEL_1"], "threshold": 0.9999}))
    SafetyChecker(folder).read("a ball", "prompt")
