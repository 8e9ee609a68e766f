"""truncated: only the finish reason counts."""

from __future__ import annotations

import pytest

from selfalign.filters.truncated import truncated


@pytest.mark.parametrize(("finish_reason", "accepted"), [("length", False), ("stop", True), ("eos", True), ("", True)])
def test_truncated(finish_reason: str, accepted: bool) -> None:
    assert truncated(finish_reason).accepted is accepted
