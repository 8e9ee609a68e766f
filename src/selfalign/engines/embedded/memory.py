"""How many sequences fit: reckoned before the first batch, so that a smaller batch is run rather than a crash."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfalign.engines.embedded.cache import bytes_per_token
from selfalign.engines.embedded.decoder import PROMPT_TOKENS
from selfalign.engines.embedded.row import Row
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions

logger = logging.getLogger(__name__)

GIB = 2**30

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Options of glibc's mallopt (malloc.h)."""

MADV_HUGEPAGE = 14
"""Advice of madvise (sys/mman.h)."""

HUGE_PAGE = 2 * 2**20

HEAP = 8 * GIB
"""Address space that the heap is grown by: what lies beyond is backed by small pages, as ever."""

PRODUCTS = 256
"""Matrix products of different shapes whose code oneDNN keeps: more than four models' steps in turn have."""

_advised: set[int] = set()
"""Ends of the heap as advised: it has not grown since where its end is among them."""

FREE_SHARE = 0.8
"""Of what is free, how much may be taken: other processes breathe, and allocators round up."""

LOGIT_COPIES = 6
"""Float32 copies of a row's logits alive at once while it is sampled (measured: 5 and the model's own)."""


def slots_that_fit(model: Any, rows: Sequence[Row], options: EngineOptions, held: int = 0) -> int:
    """Sequences that run at once: `batch_size`, or fewer where memory allows no more.

    `held` are bytes that their cache has taken already.
    """
    config = model.config.get_text_config()
    itemsize = model.dtype.itemsize
    longest = max(len(row.prompt) + row.limit for row in rows)
    per_row = longest * bytes_per_token(config, itemsize) + LOGIT_COPIES * 4 * config.vocab_size
    budget = options.memory_gib * GIB if options.memory_gib else FREE_SHARE * free_memory(model.device)
    budget += 0 if options.memory_gib else held
    budget -= activations(config, itemsize, PROMPT_TOKENS)
    wanted = min(options.batch_size, len(rows))
    fits = int(budget // per_row)
    if fits < 1:
        raise UserError(
            f"no memory for a sequence of {longest} tokens: it takes {per_row / GIB:.2f} GiB, "
            f"{max(budget, 0) / GIB:.2f} GiB are left",
            "raise engine.memory_gib, free memory, or lower max_tokens",
        )
    if fits < wanted:
        logger.warning("memory for %d sequences at once, not %d (engine.batch_size)", fits, wanted)
    return min(wanted, fits)


def activations(config: Any, itemsize: int, tokens: int) -> int:
    """About the bytes of a layer's intermediate results for so many tokens: 3 of the MLP's width, 6 of the model's."""
    width = getattr(config, "intermediate_size", 4 * config.hidden_size)
    return int(tokens * itemsize * (3 * width + 6 * config.hidden_size))


def free_memory(device: Any) -> int:
    """Bytes that can still be taken on a device: what the machine, and a container's limit, leave."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return min([machine_free(), *container_free()])


def machine_free() -> int:
    """What the kernel calls available; 4 GiB where it does not say (macOS, Windows)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 4 * GIB
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def container_free() -> list[int]:
    """What the control group (version 2) leaves, where there is one with a limit."""
    try:
        limit, used = (int(Path("/sys/fs/cgroup", f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no such file, or the limit is the word "max"
        return []
    return [limit - used]


def prepare_heap() -> None:
    """Make the C library reuse what a tensor gave back, and back its heap by huge pages, where it can.

    Otherwise every large intermediate result is paged in anew, 4 KiB at a time: turning the logits of 64 rows to
    float32 took 12 ms so, and 0.4 ms with the first; a whole step took 217 ms, and 146 ms with the second. All threads
    share that heap: those of its own that a server's thread would have are grown by 64 MiB, and backed by small pages.
    """
    forget_products()
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.malloc.restype = ctypes.c_void_p
        library.malloc.argtypes = library.sbrk.argtypes = [ctypes.c_size_t]
        library.sbrk.restype = ctypes.c_void_p
        library.free.argtypes = [ctypes.c_void_p]
        library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_TRIM_THRESHOLD, -1)
        if library.mallopt(M_MMAP_THRESHOLD, GIB):
            advise_huge_pages(library)


def forget_products() -> None:
    """Let oneDNN keep the code of few products. Before the first one: it reads its environment then.

    It writes code for every shape, 300 KiB of it, and keeps 1,024 of them twice over, so that a server under prompts of
    many lengths grew by 440 MiB within its first minutes; so it grows by 110. Writing one again takes 0.3 ms.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(PRODUCTS))


def advise_huge_pages(library: Any) -> None:
    """Grow the heap by address space alone (nothing is touched), and ask for huge pages there. Once a process."""
    start = library.sbrk(0)
    if start in _advised:
        return
    blocks = [library.malloc(HEAP // 16) for _ in range(16)]
    end = library.sbrk(0)
    for block in blocks:
        library.free(block)
    first = -(-start // HUGE_PAGE) * HUGE_PAGE
    if end > first:
        library.madvise(first, end - first, MADV_HUGEPAGE)
        _advised.add(end)


def return_freed_pages() -> None:
    """Give the heap's free pages back to the system: training is about to want them."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
