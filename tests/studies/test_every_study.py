"""What holds of every study's table of claims."""

from __future__ import annotations

import pytest

from attnlab.studies import STUDIES


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_table_is_sound(study) -> None:
    """Claims have names of their own, a preset that exists, a source, and a reason for their tolerance."""
    ids = [c.claim.id for c in study.checks]
    assert len(set(ids)) == len(ids)
    names = {p.name for p in study.presets}
    for check in study.checks:
        places = {*check.claim.presets, *check.reported}
        assert places and places <= names, check.claim.id
        assert check.claim.source and len(check.claim.tolerance_reason) > 4, check.claim.id


def test_studies_have_names_of_their_own() -> None:
    assert len({study.name for study in STUDIES}) == len(STUDIES)
