"""What runs in a worker's process of the ray engine, and how its faults come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from selfalign.engines.base import Completion, Engine
from selfalign.errors import EngineFailed, UserError


class Replica:
    """Holds the inner engine in a worker's process. The engine opens in `load`, and again after a restart."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self.make = make
        self.engine: Engine | None = None

    def load(self) -> dict[str, Any]:
        """Open the engine, and tell what it is. A UserError names the node."""
        if self.engine is None:
            try:
                self.engine = self.make()
            except UserError as fault:
                fault.message = f"node {node_address()}: {fault.message}"
                raise
        return self.engine.describe()

    def call(self, method: str, *arguments: Any) -> Iterator[tuple[Any, Any]]:
        """What a method of the engine yields, or returns, each item with a name to know it by when it comes again."""
        import ray

        self.load()
        given = getattr(self.engine, method)(*arguments)
        for place, item in enumerate(given if isinstance(given, Iterator) else [given]):
            if ray.get_runtime_context().is_canceled():
                return
            yield (item.key if isinstance(item, Completion) else place), item

    def close(self) -> None:
        """Free what the engine holds."""
        if self.engine is not None:
            self.engine.close()


def cause_of(fault: Any) -> UserError:
    """What a replica raised: a UserError as it was, anything else as EngineFailed."""
    if isinstance(fault.cause, UserError):
        return fault.cause
    return EngineFailed(f"a replica failed: {fault.cause!r}", "try the engine inside without Ray, to see where")


def node_address() -> str:
    """The address of the machine that a worker runs on."""
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
