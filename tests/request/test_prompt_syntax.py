"""Syntax of other tools in a prompt is told with a remedy, and what is only text is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import LocalAbilities, Report, check, parse
from wan_duet.pipelines.request.prompt_syntax import require_possible, syntax_findings
from wan_duet.pipelines.request.prompt_weights import Segment, is_plain, weighted_segments


def report(prompt: str, runner: str = "local", **values: object) -> Report:
    return check(parse("text-to-video", {"prompt": prompt, **values}), runner)


def said(prompt: str, runner: str = "local", **values: object) -> list[str]:
    """The warnings about the prompts."""
    return [
        finding.line()
        for finding in report(prompt, runner, **values).findings
        if finding.status in ("warning", "impossible") and "prompt" in finding.field
    ]


@pytest.mark.parametrize(
    ("prompt", "shown", "remedy"),
    [
        ("a (red:1.4) ball", "(red:1.4)", "set local.prompt_syntax to comfy"),
        ("a (red ball: .5 ) x", "(red ball: .5 )", "set local.prompt_syntax to comfy"),
        ("((big) ball:-2)", "((big) ball:-2)", "set local.prompt_syntax to comfy"),
        (r"(a \(b\):1.1)", r"(a \(b\):1.1)", "set local.prompt_syntax to comfy"),
        ("a (b (c (d) e) f:1.2)", "(b (c (d) e) f:1.2)", "set local.prompt_syntax to comfy"),
        ("(x:1e-1)", "(x:1e-1)", "set local.prompt_syntax to comfy"),
        ("(x:inf)", "(x:inf)", "set local.prompt_syntax to comfy"),
        ("x embedding:easynegative", "embedding:easynegative", "embeddings are not read"),
        ("[red:blue:0.5] ball", "[red:blue:0.5]", "leave the brackets out"),
        ("a [red|blue] ball", "[red|blue]", "leave the brackets out"),
        ("[blue:10] ball", "[blue:10]", "leave the brackets out"),
        ("a <lora:outlined:1> b", "<lora:outlined:1>", "put the LoRA into loras"),
        ("a <LoRA:x> b", "<LoRA:x>", "put the LoRA into loras"),
        ("# a ball\nand a cat", "# a ball", "leave the line out"),
        ("a {red|blue} ball", "{red|blue}", "write one of them"),
        ("a ball // red", "// red", "only ComfyUI's page removes comments"),
        ("a /* red\n */ ball", "/* red\n */", "only ComfyUI's page removes comments"),
    ],
)
def test_syntax_of_other_tools_is_told_with_its_remedy(prompt: str, shown: str, remedy: str) -> None:
    for field in ("prompt", "negative_prompt"):
        (line,) = said(**{"prompt": "x", field: prompt})
        assert line.startswith(f"warning {field}: {shown} is read as words: ")
        assert remedy in line


@pytest.mark.parametrize(
    "prompt",
    [
        "a (red) ball",
        "((red))",
        r"\(red:1.4\)",
        "[red] ball",
        "#1 of (red:) balls (at 10:)",
        "(:1.4)",
        "(x:1.4",
        r"(x:1.4\)",
        "[a:b]",
        "at 10:30",
        "red: 1.4",
        "{red}",
        r"\{a|b}",
        "a|b",
        "<red>",
        "https://example.org/a",
        "my embedding: red",
        ":-) (-:",
        "",
    ],
)
def test_what_is_only_text_is_silent(prompt: str) -> None:
    assert said(prompt or "x", negative_prompt=prompt) == []


def test_a_provider_has_no_comfy_to_set() -> None:
    (line,) = said("a (red:1.4) ball", "fal")
    assert "providers read no weights; leave it out" in line
    assert "comfy" not in line


@pytest.mark.parametrize("runner", ["fal", "novita"])
def test_comfy_is_refused_by_providers_by_name(runner: str) -> None:
    refused = report("x", runner, local={"prompt_syntax": "comfy"})
    assert not refused.ok
    assert "local.prompt_syntax" in {problem.field for problem in refused.problems}
    assert report("x", runner, local={"prompt_syntax": "plain"}).ok


def test_comfy_reads_weights_and_refuses_what_it_cannot_do() -> None:
    comfy = {"prompt_syntax": "comfy"}
    assert said("a (red:1.4) ball", local=comfy) == []
    assert "is read as words" in said("a <lora:x:1> ball", local=comfy)[0]
    for prompt, why in [("embedding:x", "embeddings are not read"), ("(red:nan)", "the weight nan")]:
        refused = report(prompt, local=comfy)
        assert refused.resolved is None
        assert why in str(refused.problems)


def test_a_clip_of_comfyui_reads_weights_whatever_is_asked() -> None:
    host = LocalAbilities(own_engine=False)
    asked = parse("text-to-video", {"prompt": "a (red:1.4) ball, embedding:x"})
    found = [item.line() for item in check(asked, abilities=host).findings if item.field == "prompt"]
    (warning,) = (line for line in found if line.startswith("warning"))
    assert warning.startswith("warning prompt: (red:1.4) is read as a weight by ComfyUI's CLIP")
    comfy = parse("text-to-video", {"prompt": "a (red:1.4) ball", "local": {"prompt_syntax": "comfy"}})
    assert check(comfy, abilities=host).ok


def test_a_block_refuses_what_a_request_refuses() -> None:
    with pytest.raises(RequestError, match="negative_prompt: asked for embedding:x"):
        require_possible(syntax_findings({"negative_prompt": "embedding:x"}, "comfy", "here"))


@pytest.mark.parametrize(
    ("prompt", "segments"),
    [
        ("a ball", [("a ball", 1.0)]),
        ("a (red) ball", [("a ", 1.0), ("red", 1.1), (" ball", 1.0)]),
        ("(red:1.4)", [("red", 1.4)]),
        ("((big:1.4) ball:0.5)", [("big", 1.4), (" ball", 0.5)]),
        (r"a \(red\)", [("a (red)", 1.0)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(:2)", [(":2", 1.1)]),
        ("a (b", [("a ", 1.0), ("(b", 1.0)]),
        ("", []),
    ],
)
def test_weights_are_read_as_in_comfyui(prompt: str, segments: list[tuple[str, float]]) -> None:
    assert weighted_segments(prompt) == [Segment(text, pytest.approx(weight)) for text, weight in segments]


@given(st.text(alphabet="ab :.14-\n[]{}|", max_size=60))
def test_a_prompt_without_parentheses_is_plain(prompt: str) -> None:
    assert is_plain(prompt)


@given(st.text(alphabet="ab(){}[]<>:|/\\*.14 \n", max_size=80))
def test_any_text_is_checked_and_split_without_an_error(prompt: str) -> None:
    syntax_findings({"prompt": prompt}, "plain", "here")
    kept = "".join(segment.text for segment in weighted_segments(prompt))
    assert len(kept) <= len(prompt)


def test_deep_nesting_is_no_error() -> None:
    depth = 3000
    (segment,) = weighted_segments("(" * depth + "a" + ")" * depth)
    assert segment.text == "a"
