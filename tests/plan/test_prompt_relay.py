"""Which texts a latent frame sees: those of its range, and of neighbours within the overlap."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.plan.prompt_relay import PromptRelay


def test_frames_beside_a_border_see_both_texts() -> None:
    relay = PromptRelay((3, 2), overlap=1)
    assert relay.seen((512, 600)) == ((0, 512), (0, 512), (0, 1112), (0, 1112), (512, 1112))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 4), st.integers(1, 700))
@settings(max_examples=80, deadline=None)
def test_a_frame_sees_exactly_the_texts_that_reach_it(lengths: list[int], overlap: int, tokens: int) -> None:
    relay = PromptRelay(tuple(lengths), overlap)
    assert PromptRelay.from_dict(json.loads(json.dumps(relay.as_dict()))) == relay
    seen = relay.seen([tokens] * len(lengths))
    assert len(seen) == sum(lengths)
    for frame, (first, end) in enumerate(seen):
        reaching = [
            text
            for text in range(len(lengths))
            if sum(lengths[:text]) - overlap <= frame < sum(lengths[: text + 1]) + overlap
        ]
        assert list(range(first // tokens, end // tokens)) == reaching
