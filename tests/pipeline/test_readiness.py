"""What is told before a run begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign.errors import UserError
from selfalign.pipeline.readiness import refuse_adapter
from tests.support.tiny import tiny_model_dir


def test_an_adapter_is_no_base_model(tmp_path: Path) -> None:
    base, adapter = tiny_model_dir(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    refuse_adapter(str(base))
    with pytest.raises(UserError, match="adapter is an adapter, and a training starts from whole weights") as caught:
        refuse_adapter(str(adapter))
    assert caught.value.hint == f"selfalign weights merge {adapter} --to DIR, then --set base_model=DIR"
