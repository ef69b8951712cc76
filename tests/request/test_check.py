"""What the check says: honoured, adjusted, impossible, or worth a warning."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES
from wan_duet.pipelines.request import (
    Finding,
    LocalAbilities,
    Report,
    check,
    field_table,
    parse,
    t2v_request,
)

A14B, TOY, ONE_EXPERT = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["toy"], FAMILIES["wan2.1-t2v-14b"]


def report(family: Any = A14B, abilities: LocalAbilities | None = None, **values: Any) -> Report:
    return check(t2v_request(prompt="a red ball", **values), family=family, abilities=abilities)


def finding(of: Report, field: str, status: str | None = None) -> Finding:
    return next(item for item in of.findings if item.field == field and status in (None, item.status))


def test_every_field_gets_exactly_one_verdict() -> None:
    request = t2v_request(prompt="a red ball", loras=[{"path": "a"}])
    verdicts = [item.field for item in check(request).findings if item.status != "warning"]
    assert verdicts == [row.name for row in field_table(request.kind)]


def test_defaults_that_cannot_be_had_are_adjusted_and_reported() -> None:
    changes = {item.field: (item.asked, item.used) for item in report().adjustments}
    assert changes == {"interpolator_model": ("film", "flow"), "acceleration": ("regular", "none")}
    assert report().ok


@pytest.mark.parametrize(
    ("have", "used"),
    [(("flow",), "flow"), (("flow", "rife"), "rife"), ((), "none")],
)
def test_film_falls_back_to_what_is_there(have: tuple[str, ...], used: str) -> None:
    assert finding(report(abilities=LocalAbilities(interpolators=have)), "interpolator_model").used == used


def test_film_that_is_there_is_used() -> None:
    there = report(abilities=LocalAbilities(interpolators=("flow", "film")))
    assert finding(there, "interpolator_model").status == "supported"


def test_rife_is_a_demand_and_says_what_would_make_it_possible() -> None:
    asked = report(interpolator_model="rife")
    assert not asked.ok
    (problem,) = asked.problems
    assert problem.field == "interpolator_model"
    for said in ("rife_v4.26.safetensors", "models/frame_interpolation", "Comfy-Org/frame_interpolation"):
        assert said in problem.fix


def test_a_file_that_cannot_be_used_is_named_where_one_is_missing() -> None:
    abilities = LocalAbilities(unusable_interpolators=("film/film_net_fp32.pt: TorchScript",))
    assert "film_net_fp32.pt" in finding(report(abilities=abilities), "interpolator_model").reason


def test_interpolator_does_not_matter_when_no_frame_is_added() -> None:
    assert report(interpolator_model="rife", num_interpolated_frames=0).ok


@pytest.mark.parametrize(
    ("field", "ability"),
    [
        ("enable_safety_checker", "safety_checker"),
        ("enable_output_safety_checker", "safety_checker"),
        ("enable_prompt_expansion", "prompt_expander"),
    ],
)
def test_switch_is_impossible_only_when_on_and_not_there(field: str, ability: str) -> None:
    assert finding(report(**{field: True}), field).status == "impossible"
    assert finding(report(**{field: False}), field).status == "supported"
    assert finding(report(), field).status == "supported"
    there = report(abilities=LocalAbilities(**{ability: True}), **{field: True})
    assert finding(there, field).status == "supported"


def test_toy_has_its_own_sizes_and_clip_length() -> None:
    toy = report(TOY, resolution="480p", aspect_ratio="9:16")
    assert finding(toy, "resolution").used == "64x112"
    assert finding(toy, "num_frames").used == 17
    assert finding(report(TOY, num_frames=33), "num_frames").status == "supported"


def test_one_expert_takes_the_default_of_the_second_scale_but_no_demand() -> None:
    assert finding(report(ONE_EXPERT), "guidance_scale_2").status == "adjusted"
    assert finding(report(ONE_EXPERT, guidance_scale_2=2.0), "guidance_scale_2").status == "impossible"


def test_one_expert_has_no_low_expert_for_a_lora() -> None:
    assert report(ONE_EXPERT, loras=[{"path": "a"}]).ok
    (problem,) = report(ONE_EXPERT, loras=[{"path": "a"}, {"path": "b", "transformer": "low"}]).problems
    assert problem.field == "loras"
    assert "loras[1].transformer" in problem.fix


def test_model_of_another_task_is_refused() -> None:
    (problem,) = report(FAMILIES["wan2.2-i2v-a14b"]).problems
    assert problem.field == "model"


def test_very_fast_video_warns_and_is_not_slowed() -> None:
    fast = report(frames_per_second=60, num_interpolated_frames=4)
    assert "300" in finding(fast, "frames_per_second", "warning").reason
    assert fast.ok
    slow = report(frames_per_second=60, num_interpolated_frames=4, adjust_fps_for_interpolation=False)
    assert not [item for item in slow.findings if item.status == "warning"]


def test_negative_prompt_without_any_guidance_warns() -> None:
    silent = report(negative_prompt="blur", guidance_scale=1, guidance_scale_2=1)
    assert finding(silent, "negative_prompt", "warning")
    half = report(negative_prompt="blur", guidance_scale=1)
    assert not [item for item in half.findings if item.status == "warning"]


def test_report_is_plain_json_and_reads_well() -> None:
    toy = report(TOY)
    assert json.loads(json.dumps(toy.as_dict()))["ok"] is True
    assert "adjusted: num_frames 81 -> 17" in toy.text()
    assert "price: $0.00" in toy.text()


def test_check_needs_no_model() -> None:
    assert check(t2v_request(prompt="a")).model is None


def test_unknown_runner_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="runner"):
        check(t2v_request(prompt="a"), runner="replicate")


def local(kind: str, family: Any = None, **values: Any) -> Report:
    return check(parse(kind, {"prompt": "a", **values}), family=family)


def test_image_size_overrules_the_tier_and_a_demand_for_both_is_refused() -> None:
    both = {"image_url": "a.png", "image_size": "square"}
    overruled = local("image-to-image", **both)
    assert {item.field for item in overruled.adjustments} >= {"resolution", "aspect_ratio"}
    (problem,) = local("image-to-image", resolution="480p", **both).problems
    assert problem.field == "resolution"
    assert local("image-to-image", image_url="a.png", resolution="480p").ok


@pytest.mark.parametrize(
    ("family", "width", "ok"), [("wan2.2-t2v-a14b", 528, True), ("wan2.2-t2v-a14b", 520, False)]
)
def test_a_size_between_multiples_is_refused_with_the_nearest_one(family: str, width: int, ok: bool) -> None:
    asked = local("text-to-image", FAMILIES[family], image_size={"width": width, "height": 512})
    assert asked.ok == ok
    assert ok or "the nearest is 512x512" in asked.text()


def test_the_5b_model_draws_multiples_of_32() -> None:
    small = FAMILIES["wan2.2-ti2v-5b"]
    assert not local("small-text-to-image", small, image_size={"width": 528, "height": 512}).ok
    assert local("small-text-to-image", small, image_size={"width": 544, "height": 512}).ok


def test_auto_keeps_the_shape_of_the_input() -> None:
    auto = local("image-to-video", FAMILIES["wan2.2-i2v-a14b"], image_url="a.png")
    assert "1280x720 in the shape of the input" in finding(auto, "resolution").reason


def test_a_local_run_downloads_no_media() -> None:
    remote = local("image-to-video", image_url="https://a.b/c.png")
    assert [problem.field for problem in remote.problems] == ["image_url"]


def test_a_local_run_takes_loras_from_https_and_from_repositories() -> None:
    for path in ("https://a.b/c", "HTTPS://a.b/c", "owner/name", "toy/name", "a.safetensors"):
        assert report(loras=[{"path": path}]).ok
    (problem,) = report(loras=[{"path": "http://a.b/c"}]).problems
    assert "loras[0].path is downloaded over https only" in problem.fix


@pytest.mark.parametrize("path", ["a.safetensors", "toy/name"])
def test_a_weight_name_beside_a_file_is_refused(path: str) -> None:
    assert report(loras=[{"path": "owner/name", "weight_name": "a.safetensors"}]).ok
    (problem,) = report(loras=[{"path": path, "weight_name": "a.safetensors"}]).problems
    assert "loras[0].weight_name" in problem.fix


def test_fastvideo_has_its_guidance_inside() -> None:
    assert finding(local("small-fast-video"), "guidance_scale").used == 1.0
    assert not local("small-fast-video", guidance_scale=2.0).ok
    assert finding(local("small-fast-video", negative_prompt="blur"), "negative_prompt", "warning")


def test_a_webhook_is_of_no_use_here() -> None:
    novita = {"width": 832, "height": 480, "seed": 1}
    assert local("wan21-text-to-video", **novita).ok
    (problem,) = local("wan21-text-to-video", extra={"webhook": {"url": "https://a.b"}}, **novita).problems
    assert problem.field == "extra"


def test_more_steps_than_noise_levels_are_refused() -> None:
    (problem,) = local("legacy-text-to-video", num_inference_steps=1001).problems
    assert problem.field == "num_inference_steps"
    assert local("legacy-text-to-video", num_inference_steps=1000).ok


def test_steps_are_skipped_only_at_a_runner_that_may_and_never_in_the_four_of_turbo() -> None:
    may = LocalAbilities(step_cache=True)
    assert finding(report(), "acceleration").used == "none"
    assert finding(report(abilities=may), "acceleration").used == "regular"
    turbo = check(parse("text-to-video-turbo", {"prompt": "a"}), family=A14B, abilities=may)
    assert finding(turbo, "acceleration").used == "none"


@pytest.mark.parametrize(("tokens", "told"), [(512, False), (513, True)])
def test_a_prompt_that_a_host_does_not_cut_is_told_all_the_same(tokens: int, told: bool) -> None:
    abilities = LocalAbilities(own_engine=False, count_tokens=lambda _: tokens)
    found = check(t2v_request(prompt="word " * 512), family=A14B, abilities=abilities).text()
    said = f"prompt {tokens} tokens: longer than the 512 tokens that the model was trained on; ComfyUI uses"
    assert (said in found) == told


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/me/loras/a.safetensors", "a.safetensors"),
        ("C:\\Users\\me\\a.safetensors", "a.safetensors"),
        ("style/a.safetensors", "style/a.safetensors"),
        ("https://me:key@a.test/a.safetensors?token=secret", "https://a.test/a.safetensors"),
    ],
)
def test_a_finding_in_a_receipt_has_nothing_private(path: str, shown: str) -> None:
    shared = Finding("loras[0].path", "warning", path, None, "odd").to_share()
    assert (shared["asked"], shared["used"]) == (shown, None)
    prompt = Finding("prompt", "warning", "/a ball", "/a ball", "odd")
    assert prompt.to_share() == prompt.as_dict()
