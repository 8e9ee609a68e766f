"""A model's numbers by C functions, compiled for the model at hand where there is a C compiler.

Nothing needs them: without a compiler, on a GPU or in another dtype PyTorch's operators do the same in more passes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.engines.embedded.cache import key_shape
from selfalign.engines.embedded.cache_directory import cache_directory
from selfalign.records import content_hash

if TYPE_CHECKING:
    from torch import Tensor

    from selfalign.engines.embedded.cache import SlotCache
    from selfalign.engines.embedded.pairs import SharedPairs

SOURCES = sorted(Path(__file__).with_name("c").glob("*.[ch]"))
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    # What lets sums be vectorised; NaN and infinity keep their meaning.
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),
)
PATIENCE = 60
"""Seconds that a compiler may take; about one is usual."""

BLOCK = 64
"""Columns that the products of pairs make together, as in c/pairs.h."""

Pointer, Long = ctypes.c_void_p, ctypes.c_long
STRIDED = (Pointer, Long, Long)
"""A tensor [heads, rows, D]: its address and the strides of a head and a row."""


class Kernel:
    """The compiled functions for heads of one size and grouping, in one dtype."""

    def __init__(self, file: Path, dim: int) -> None:
        library = ctypes.CDLL(str(file))
        self._attend, self._soften = library.attend, library.soften
        self._normalise, self._rotate, self._gate = library.normalise, library.rotate, library.gate
        self._choose, self._share, self._linear = library.choose, library.share, library.linear
        for name in ("attend", "soften", "share", "normalise", "rotate", "gate", "linear", "choose"):
            getattr(library, name).restype = None
        library.has_pairs.restype = Long
        self.has_pairs = bool(library.has_pairs()) and not has_tiles()
        self.shares = self.has_pairs and dim % 16 == 0
        own = (*STRIDED * 3, Pointer, Pointer)
        self._soften.argtypes = (Long, Long, Pointer, Pointer)
        self._normalise.argtypes = (Long, Long, Pointer, Pointer, ctypes.c_float, Pointer)
        self._rotate.argtypes = (Long, Long, *STRIDED, Pointer, Pointer, Pointer)
        self._gate.argtypes = (Long, Pointer, Pointer)
        self._share.argtypes = (*(Long,) * 3, *(Pointer,) * 5)
        self._linear.argtypes = (*(Long,) * 3, *(Pointer,) * 4)
        self._choose.argtypes = (Long, Long, Pointer, Long, *(Pointer,) * 4)
        self._attend.argtypes = (*(Long,) * 4, Pointer, *own, *STRIDED, Pointer, Long, Pointer)

    def attend(
        self,
        cache: SlotCache,
        layer: int,
        places: Tensor,
        fresh: tuple[Tensor, Tensor, Tensor],
        shared: tuple[Tensor, Tensor] | None,
        window: int | None,
        output: Tensor,
    ) -> None:
        """Keep the newest keys and values, and write the rows' attention to `output` [1, N, H, D], its first rows.

        `places` [B] are those of the slots 0 to B - 1; `fresh` is query [1, H, N, D], key and value [1, Hk, N, D];
        `shared` the attention over shared keys [1, H, N, D] and its log-sum-exp [1, H, N] in float32.
        """
        keys, values = cache.keys[layer], cache.values[layer]
        rest: tuple[Any, ...] = (None, 0, 0, None, 0)
        if shared is not None:
            rest = (*strided(shared[0]), shared[1].data_ptr(), shared[1].stride(1))
        self._attend(
            *(len(places), keys.shape[1], keys.shape[3], window or 0, places.data_ptr()),
            *(number for tensor in fresh for number in strided(tensor)),
            *(keys.data_ptr(), values.data_ptr()),
            *rest,
            output.data_ptr(),
        )

    def share(self, query: Tensor, shared: SharedPairs) -> tuple[Tensor, Tensor]:
        """Attention of queries [1, H, N, D] over the keys that all share: [1, H, N, D], log-sum-exp [1, H, N]."""
        import torch

        query = query.contiguous()
        _, heads, count, _ = query.shape
        output, lse = torch.empty_like(query), torch.empty((1, heads, count), dtype=torch.float32)
        kv_heads = len(shared.keys)
        addresses = [tensor.data_ptr() for tensor in (query, shared.keys, shared.values, output, lse)]
        self._share(kv_heads, heads // kv_heads * count, shared.length, *addresses)
        return output, lse

    def soften(self, scores: Tensor) -> Tensor:
        """Scores [..., S] -> their softmax, in place; their log-sum-exp [...] in float32."""
        import torch

        lse = torch.empty(scores.shape[:-1], dtype=torch.float32)
        self._soften(lse.numel(), scores.shape[-1], scores.data_ptr(), lse.data_ptr())
        return lse

    def normalise(self, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """RMS norm of contiguous [..., W] under a weight [W]."""
        import torch

        output, width = torch.empty_like(hidden), len(weight)
        rows = hidden.numel() // width
        self._normalise(rows, width, hidden.data_ptr(), weight.data_ptr(), epsilon, output.data_ptr())
        return output

    def rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary position embedding of [1, heads, N, D] by cos and sin [1, N, D], as new heads side by side."""
        import torch

        _, count, rows, dim = heads.shape
        rotated = torch.empty((1, count, rows, dim), dtype=heads.dtype)
        cos, sin = cos.contiguous(), sin.contiguous()
        self._rotate(count, rows, *strided(heads), cos.data_ptr(), sin.data_ptr(), rotated.data_ptr())
        return rotated

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) * up of two tensors of one shape, written over `gate` where that is contiguous."""
        gate, up = gate.contiguous(), up.contiguous()
        self._gate(gate.numel(), gate.data_ptr(), up.data_ptr())
        return gate

    def linear(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A linear layer on [..., in] by a weight in pairs [out / BLOCK, in / 2, BLOCK, 2]: [..., out]."""
        hidden, (width, out) = hidden.contiguous(), (2 * weight.shape[1], len(weight) * BLOCK)
        output = hidden.new_empty(*hidden.shape[:-1], out)
        addresses = (hidden.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(), output.data_ptr())
        self._linear(hidden.numel() // width, width, out, *addresses)
        return output

    def choose(self, logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
        """A token of each row of logits [B, V], float32 or of the model: [B]. Temperature 0 takes the likeliest."""
        import torch

        logits, chosen = logits.contiguous(), torch.empty(len(logits), dtype=torch.int64)
        columns = (*(column.float().contiguous() for column in (temperature, top_p, uniform)), chosen)
        is_float = logits.dtype == torch.float32
        self._choose(*logits.shape, logits.data_ptr(), is_float, *(tensor.data_ptr() for tensor in columns))
        return chosen


def has_tiles() -> bool:
    """Whether the processor multiplies whole tiles (AMX), which PyTorch's own products use and ours do not."""
    import torch

    return bool(torch.cpu._is_amx_tile_supported())


def kernel_of(model: Any) -> Kernel | None:
    """The kernel for a model's heads, dtype and device; None where there is none."""
    heads, dim = key_shape(model.config)
    return find_kernel(dim, model.config.num_attention_heads // heads, str(model.dtype), model.device.type)


def strided(tensor: Tensor) -> tuple[int, int, int]:
    """Address, and strides of a head and a row, of [1, heads, rows, D] whose last dimension lies side by side."""
    if tensor.stride(3) != 1:
        raise ValueError(f"the last stride is {tensor.stride(3)}, not 1")
    return tensor.data_ptr(), tensor.stride(1), tensor.stride(2)


@lru_cache
def find_kernel(dim: int, groups: int, dtype: str, device: str) -> Kernel | None:
    """The kernel for heads of `dim` numbers, `groups` of them a key-value head; None where it cannot be had.

    From the cache directory, or else compiled into it; tried once a process.
    """
    types = {"torch.bfloat16": ("-DBFLOAT16",), "torch.float32": ()}
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if device != "cpu" or dtype not in types or compiler is None:
        return None
    definitions = (*types[dtype], f"-DD={dim}", f"-DG={groups}")
    sources = [source.read_text(encoding="utf-8") for source in SOURCES]
    name = content_hash([*sources, *FLAGS, *definitions, compiler, processor()], 16)
    file = cache_directory() / "kernels" / f"{name}.so"
    try:
        if not file.exists():
            build(compiler, definitions, file)
        return Kernel(file, dim)
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None


def build(compiler: str, definitions: tuple[str, ...], file: Path) -> None:
    """Compile under a temporary name, then rename: another process may be at the same."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        target = Path(folder, file.name)
        files = [str(source) for source in SOURCES if source.suffix == ".c"]
        call = [compiler, *FLAGS, *definitions, "-o", str(target), *files, "-lm"]
        subprocess.run(call, check=True, capture_output=True, timeout=PATIENCE)
        target.replace(file)


def processor() -> str:
    """What the instructions were chosen for: a home directory may be shared by machines of several kinds."""
    if sys.platform != "linux":
        return platform.processor()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
