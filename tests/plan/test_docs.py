"""The page of the request language is written from the classes."""

from __future__ import annotations

from wan_duet.pipelines.plan.docs import field_markdown
from wan_duet.pipelines.request import KINDS, field_table


def test_the_page_has_every_field_of_every_kind_and_no_empty_cell_where_there_is_a_range() -> None:
    for kind in KINDS:
        table = field_markdown(kind)
        for row in field_table(kind):
            line = next(line for line in table.splitlines() if line.startswith(f"| `{row.name}` |"))
            assert row.description in line
            assert all(limit.as_of in line for limit in row.limits)
            assert line.replace("\\|", "").count("|") == 6


def test_the_page_shows_both_dates_of_a_range_that_changed() -> None:
    page = field_markdown("text-to-video")
    assert "from 1 to 100000; at fal from 17 to 161 (2026-08); at fal from 17 to 121 (before 2026-08)" in page


def test_the_page_shows_the_fields_of_a_lora() -> None:
    assert '| `transformer` | enum | `"high"` |' in field_markdown("text-to-video-lora")
    assert "`transformer`" not in field_markdown("legacy-text-to-video-lora")
    assert "from 0 to 4 (before 2026-08)" in field_markdown("wan21-text-to-video")
