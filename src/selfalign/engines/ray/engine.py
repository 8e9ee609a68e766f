"""The ray engine: replicas of another engine on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.base import Completion, Engine, Request, Score
from selfalign.engines.ray.cluster import brief, import_ray, join_cluster, resources
from selfalign.engines.ray.replica import Replica, cause_of
from selfalign.errors import EngineFailed, UserError
from selfalign.recipe import EngineOptions

logger = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Batches sent to a replica at once: one that it works on, and one that waits there so that it never idles."""

MOST_DEATHS = 3
"""Workers that may die over one batch, none of them having answered a further request of it, before the run ends."""

LOAD_SECONDS = 1800.0
"""How long replicas may take to start: the weights of a large model come over the network."""

LATE_SECONDS = 60.0
"""How much longer than the first one replicas may take, or twice as long as it, before work begins without them."""

RETURN_SECONDS = 600.0
"""How long to wait, with no replica left at work, until one has been restarted."""

CLOSE_SECONDS = 10.0
"""How long a replica may take to close its engine before its process is ended."""


@dataclass(eq=False, slots=True)
class Call:
    """What one replica is asked to do: a batch, mostly. `seen` names the items that came, `deaths` the workers lost."""

    method: str
    arguments: tuple[Any, ...]
    seen: set[Any] = field(default_factory=set)
    deaths: int = 0


class RayEngine:
    """Hosts `make()` in `options.replicas` Ray actors, spread over the cluster's nodes.

    Actors rather than Ray Data or an ActorPool: a model is loaded once and kept, single completions come back as they
    finish (Ray's streaming generators), and the batches of an actor that died can go to another at once, while Ray
    restarts the dead one. No placement group is made, since vLLM inside one would spread its own workers over Ray.

    A batch is a run of requests of one prefix, cut by `options.batch_size` from the sorted requests: it depends on the
    requests alone and is run again whole, so batches and not replicas fix the arithmetic, and the same requests give
    the same texts on any number of machines, as long as these compute alike. `selfalign`, of this version, and the
    model must be on every node.
    """

    def __init__(self, make: Callable[[], Engine], options: EngineOptions) -> None:
        self._ray = import_ray()
        self.batch_size = options.batch_size
        self.replicas: list[Any] = []
        self._away: dict[Any, Any] = {}
        self._last_fault = ""
        self._joined = join_cluster(self._ray, options.address)
        try:
            self._description = self._start(make, options)
        except BaseException:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        """The inner engine's own: a run may move between one machine and a cluster."""
        return dict(self._description)

    def chat_format(self, system: str) -> ChatFormat:
        """The inner engine's."""
        return next(chat_format for _, chat_format in self._run([Call("chat_format", (system,))]))  # type: ignore[no-any-return]

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they come back. What a dead worker left unanswered is run again on another."""
        for _, completion in self._run([Call("generate", (batch,)) for batch in batches(requests, self.batch_size)]):
            yield completion

    def score(self, pairs: Sequence[tuple[str, str]], chat_format: bool = False) -> list[Score]:
        """Scores in order; batches are runs of neighbours, which mostly share their context."""
        size = self.batch_size
        calls = [Call("score", (pairs[at : at + size], chat_format)) for at in range(0, len(pairs), size)]
        found = dict(self._run(calls))
        return [score for call in calls for score in found[call]]

    def stream(self, request: Request) -> Iterator[str]:
        """Pieces as they come from one replica. Raises EngineFailed where it dies after the first of them."""
        for _, piece in self._run([Call("stream", (request,))]):
            yield piece

    def close(self) -> None:
        """Close and end the replicas, and leave the cluster; one that was started here ends."""
        replicas, self.replicas = self.replicas, []
        if replicas and self._ray.is_initialized():
            closing = [replica.close.remote() for replica in replicas if replica not in self._away.values()]
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS) if closing else None
            for replica in replicas:
                self._ray.kill(replica)
        self._away.clear()
        if self._joined:
            self._joined = False
            self._ray.shutdown()

    # ----------------------------------------------------------------------------------------------------- replicas

    def _start(self, make: Callable[[], Engine], options: EngineOptions) -> dict[str, Any]:
        """Have all replicas load at once, and give their common description.

        Work begins with those that are up when the rest take too long: a machine may be gone and Ray not know it yet.
        """
        needs = resources(self._ray.nodes(), options)
        actor = self._ray.remote(Replica).options(max_restarts=-1, scheduling_strategy="SPREAD", **needs)
        self.replicas = [actor.remote(make) for _ in range(options.replicas)]
        loading = {replica.load.remote(): replica for replica in self.replicas}
        found: dict[str, Any] = {}
        began = time.monotonic()
        end = began + LOAD_SECONDS
        while loading and (ready := self._ray.wait(list(loading), timeout=max(0.0, end - time.monotonic()))[0]):
            description = self._loaded(ready[0], found)
            del loading[ready[0]]
            if not found:
                now = time.monotonic()
                found, end = description, min(end, now + max(LATE_SECONDS, now - began))
        if not found:
            raise EngineFailed(
                f"none of {options.replicas} replicas up after {LOAD_SECONDS:.0f} s; each needs {needs}",
                "look at `ray status`, or lower engine.replicas",
            )
        if loading:
            up = options.replicas - len(loading)
            logger.warning("%d of %d replicas are up; the others join when they are", up, options.replicas)
        self._away = loading
        return found

    def _loaded(self, reference: Any, known: dict[str, Any]) -> dict[str, Any]:
        """What a replica that has loaded says of itself. Raises UserError where that is not what is `known`."""
        try:
            description: dict[str, Any] = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as fault:
            raise cause_of(fault) from fault
        except self._ray.exceptions.RayError as fault:
            raise EngineFailed(
                f"a replica died while it loaded the model: {brief(fault)}",
                "look at `ray status` and at the memory of its node",
            ) from fault
        if known and description != known:
            raise UserError(
                f"replicas would not compute alike: {known} on one node, {description} on another",
                "set engine.dtype to float32, or use nodes of one kind",
            )
        return description

    def _lost(self, replica: Any, fault: Exception, running: dict[Any, tuple[Any, Call]], queue: deque[Call]) -> None:
        """A replica is gone: its calls go back to the head of the queue, and it comes back when Ray restarted it."""
        self._last_fault = brief(fault)
        lost = [stream for stream, (owner, _) in running.items() if owner is replica]
        calls = [running.pop(stream)[1] for stream in lost]
        logger.warning("a replica died (%s); what it had not answered is run again", self._last_fault)
        calls[0].deaths += 1  # the others waited behind it
        if calls[0].deaths > MOST_DEATHS or any(call.method == "stream" and call.seen for call in calls):
            raise EngineFailed(
                f"workers died {calls[0].deaths} times over one batch, the last: {self._last_fault}",
                "look at the memory of its node; a smaller engine.batch_size needs less",
            ) from fault
        queue.extendleft(reversed(calls))
        self._away[replica.load.options(max_task_retries=-1).remote()] = replica

    def _returned(self, reference: Any) -> None:
        """A restarted replica has loaded, or cannot: then it is given up, and the others go on."""
        replica = self._away.pop(reference)
        try:
            self._loaded(reference, self._description)
        except UserError as fault:
            self._last_fault = fault.message
            self.replicas.remove(replica)
            self._ray.kill(replica)
            logger.warning("a replica did not come back: %s", fault.message)
            if not self.replicas:
                raise

    # -------------------------------------------------------------------------------------------------------- calls

    def _run(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Any]]:
        """Have the replicas answer the calls, and yield each item once, with its call. Closing it cancels the rest."""
        queue = deque(calls)
        running: dict[Any, tuple[Any, Call]] = {}
        try:
            while queue or running:
                self._send(queue, running)
                ready = self._wait(running)
                if ready in self._away:
                    self._returned(ready)
                else:
                    yield from self._take(ready, running, queue)
        finally:
            for stream in running:
                with suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(stream)

    def _send(self, queue: deque[Call], running: dict[Any, tuple[Any, Call]]) -> None:
        """Give each replica up to IN_FLIGHT calls, the idle ones first."""
        away = list(self._away.values())
        for depth in range(IN_FLIGHT):
            for replica in self.replicas:
                held = sum(owner is replica for owner, _ in running.values())
                if queue and held == depth and replica not in away:
                    call = queue.popleft()
                    stream = replica.call.options(num_returns="streaming").remote(call.method, *call.arguments)
                    running[stream] = (replica, call)

    def _wait(self, running: dict[Any, tuple[Any, Call]]) -> Any:
        """The next stream that has an item, an end or a fault, or a replica that is back."""
        patience = None if running else RETURN_SECONDS
        ready, _ = self._ray.wait([*running, *self._away], num_returns=1, timeout=patience)
        if not ready:
            raise EngineFailed(
                f"no replica came back within {RETURN_SECONDS:.0f} s; the last fault: {self._last_fault}",
                "look at `ray status`; run again to resume",
            )
        return ready[0]

    def _take(
        self, stream: Any, running: dict[Any, tuple[Any, Call]], queue: deque[Call]
    ) -> Iterator[tuple[Call, Any]]:
        """One item of a stream that is ready, unless it came before a worker died."""
        replica, call = running[stream]
        try:
            name, item = self._ray.get(next(stream))
        except StopIteration:
            del running[stream]
        except self._ray.exceptions.RayTaskError as fault:
            raise cause_of(fault) from fault
        except self._ray.exceptions.RayError as fault:
            self._lost(replica, fault, running, queue)
        else:
            if name not in call.seen:
                call.seen.add(name)
                call.deaths = 0
                yield call, item


def batches(requests: Iterable[Request], size: int) -> list[list[Request]]:
    """Requests of one prefix, up to `size` together, the longest prompts first, in whatever order they came."""
    ordered = sorted(requests, key=lambda request: (request.prefix, -len(request.prompt), request.key))
    groups = [list(group) for _, group in groupby(ordered, key=lambda request: request.prefix)]
    return [group[at : at + size] for group in groups for at in range(0, len(group), size)]
