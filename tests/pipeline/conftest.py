"""What all pipeline tests share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs here are killed, never cut off from power: syncing would take a third of their time and show nothing."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
