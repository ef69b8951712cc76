"""docs/kinds-tested.md is complete and names tests that exist."""

from __future__ import annotations

import re

import kinds_tested

from wan_duet.pipelines.request import KINDS, LocalAbilities


def test_the_page_is_up_to_date() -> None:
    written = kinds_tested.PAGE.read_text(encoding="utf-8")
    assert written == kinds_tested.page(), "write it again with: python tests/kinds_tested.py"


def test_every_kind_that_runs_here_and_every_field_of_it_is_named() -> None:
    here = {kind: cls for kind, cls in KINDS.items() if cls.task in LocalAbilities().tasks}
    assert here.keys() <= kinds_tested.END_TO_END.keys()
    fields = {field for cls in here.values() for field in cls.model_fields}
    assert fields <= kinds_tested.FIELDS.keys()


def test_every_test_that_is_named_exists() -> None:
    for file, function in kinds_tested.tests_of():
        text = file.read_text(encoding="utf-8")
        assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE), (
            f"{file.name}::{function}"
        )
