"""What every section is made of: the kinds of number, the base class, and an option with its meaning."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Probability = Annotated[float, Field(gt=0.0, le=1.0)]
Temperature = Annotated[float, Field(ge=0.0, le=5.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Price = Annotated[float, Field(ge=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no more, and would say so only when training begins


class Section(BaseModel):
    """Base of every section: an unknown key is a fault, and so is a number that is not finite, or `yes` for one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1, and so would `temperature: yes` be."""
        wanted = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and wanted in (int, float):
            raise PydanticCustomError("number_type", "Input should be a number, not true or false")
        return value


def option(default: Any, meaning: str, *, affects_data: bool = True) -> Any:
    """A field with its meaning. `affects_data=False` marks what may change between two sessions of one run."""
    return Field(default=default, description=meaning, json_schema_extra={"affects_data": affects_data})
