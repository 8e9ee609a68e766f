"""The two points where TRL's SFTTrainer is bent: no telemetry, and every step's loss is looked at.

Both are made by functions, because their base classes come from libraries that must not load before they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from selfalign.errors import RunFailed


def quiet_trainer() -> type[Any]:
    """SFTTrainer without the message that TRL 1.x sends to the Hub whenever a trainer is made."""
    from trl import SFTTrainer

    class QuietTrainer(SFTTrainer):  # type: ignore[misc,unused-ignore]
        def _send_telemetry(self) -> None:
            """Nothing leaves the machine."""

    return QuietTrainer


def step_callback(on_step: Callable[[int, int, float], None] | None) -> Any:
    """A callback that passes (step, steps in all, loss) on, and raises RunFailed for a loss that is not finite."""
    from transformers import TrainerCallback

    class StepCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            """Called after every optimizer step (`logging_steps=1`), and once for each evaluation (without `loss`)."""
            if not logs or "loss" not in logs:
                return
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise RunFailed(
                    f"the training loss is {loss} at step {state.global_step} of {state.max_steps}",
                    "lower learning_rate, or raise warmup_steps",
                )
            if on_step:
                on_step(state.global_step, state.max_steps, loss)

    return StepCallback()
