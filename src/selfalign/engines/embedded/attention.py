"""Attention in two parts: one over the keys that all sequences share, one over each sequence's own.

Softmax over a union of keys is the two partial results weighted by their log-sum-exp, so the shared part is one matrix
product over all sequences at once and its keys are never copied.

A forward pass is flat: the tokens of all sequences stand in one row [1, N] without padding, some being the next token
of a sequence that is written and others a prompt just begun. Only this file knows which token belongs to whom: the
`Step` says it, and travels as a keyword argument of the model's forward call, which transformers hands on to the
attention function. H query heads share Hk key-value heads, G = H / Hk each; D is the size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from selfalign.engines.embedded.cache import SlotCache
from selfalign.engines.embedded.kernel import Kernel, find_kernel
from selfalign.engines.embedded.pairs import SharedPairs
from selfalign.engines.embedded.parts import MASKED, Part, among_themselves, decoded_part, merge, shared_part
from selfalign.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

NAME = "selfalign_two_part"

UNSPLITTABLE = ("softcap", "s_aux", "position_bias")
"""Attention arguments that change the softmax itself."""

Kind = Literal["prefix", "own", "padded"]


class Prefix(NamedTuple):
    """A shared prefix: its length P in tokens, and per layer its keys [1, Hk, D, P] and values [1, Hk, P, D].

    `pairs` are the same as a kernel reads them; none where no kernel does, or for what is used only once.
    """

    length: int
    layers: Sequence[tuple[Tensor, Tensor]]
    pairs: Sequence[SharedPairs] = ()


class Padded(NamedTuple):
    """Tokens of several sequences as a rectangle, for attention among themselves.

    `index` [R, T] names each cell's token (any token in a cell of padding, which stands after the real ones), `cells`
    [n] each token's cell; `mask` [R, T, T] says what a cell sees, and is None where that is every cell before it.
    """

    index: Tensor
    cells: Tensor
    mask: Tensor | None


@dataclass
class Step:
    """What one forward pass attends to.

    The first `decoding` tokens are the newest of the slots 0 to `decoding` - 1 of `cache`, which hold the sequences'
    own keys; the tokens after them belong to `padded`. `slots` and `places` [N] say where each token's keys are kept,
    and `places` is also its distance from the prefix's end. Without a cache nothing is kept.
    """

    prefix: Prefix
    places: Tensor
    cache: SlotCache | None = None
    slots: Tensor | None = None
    decoding: int = 0
    padded: Padded | None = None

    def __post_init__(self) -> None:
        self.length = int(self.places[: self.decoding].max()) + 1 if self.decoding else 0
        self._masks: dict[tuple[Kind, int | None], Tensor | None] = {}

    def mask(self, kind: Kind, window: int | None, like: Tensor) -> Tensor | None:
        """What is added to scores in a layer of that window, made once a pass; None where nothing is.

        Of the kind `prefix` [N, P], `own` [decoding, 1, 1, length], `padded` [R, 1, T, T] (None: causal).
        """
        if (kind, window) not in self._masks:
            seen: Tensor | None = getattr(self, f"_{kind}_seen")(window)
            self._masks[kind, window] = None if seen is None else additive(seen, like)
        return self._masks[kind, window]

    def _prefix_seen(self, window: int | None) -> Tensor | None:
        import torch

        if window is None or int(self.places.max()) + self.prefix.length < window:
            return None
        keys = torch.arange(self.prefix.length, device=self.places.device)
        return keys > (self.places + self.prefix.length - window)[:, None]

    def _own_seen(self, window: int | None) -> Tensor:
        import torch

        keys = torch.arange(self.length, device=self.places.device)
        newest = self.places[: self.decoding, None]
        seen = keys <= newest
        seen = seen if window is None else seen & (keys > newest - window)
        return seen[:, None, None]

    def _padded_seen(self, window: int | None) -> Tensor | None:
        import torch

        assert self.padded is not None
        if self.padded.mask is None and (window is None or self.padded.index.shape[1] <= window):
            return None
        places = self.places[self.decoding :][self.padded.index]
        seen = self.padded.mask
        if seen is None:
            size = self.padded.index.shape[1]
            seen = torch.ones(size, size, dtype=torch.bool, device=places.device).tril()
        seen = seen if window is None else seen & (places[:, None, :] > places[:, :, None] - window)
        return seen.expand(len(places), -1, -1)[:, None]


def additive(seen: Tensor, like: Tensor) -> Tensor:
    """0 where a key is seen and `MASKED` where not, of the type of `like`."""
    import torch

    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, MASKED)


def register() -> None:
    """Make the attention known to transformers under `NAME`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, two_part_attention)


class Inputs(NamedTuple):
    """What a layer's attention is given: scaled query [1, H, N, D], key and value [1, Hk, N, D], and what to use."""

    query: Tensor
    key: Tensor
    value: Tensor
    layer: int
    window: int | None
    kernel: Kernel | None

    def after(self, start: int) -> Inputs:
        """The same of the tokens from `start` on."""
        query, key, value = (tensor[:, :, start:] for tensor in self[:3])
        return self._replace(query=query, key=key, value=value)


def two_part_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    two_part: Step | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention function for transformers: query [1, H, N, D], key and value [1, Hk, N, D] -> [1, N, H, D]."""
    if two_part is None or any(options.get(name) is not None for name in UNSPLITTABLE):
        raise UserError(f"{type(module).__name__} cannot be split into two parts", "use engine.kind: vllm")
    query = query * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    kernel = find_kernel(query.shape[3], query.shape[1] // key.shape[1], str(query.dtype), query.device.type)
    inputs = Inputs(query, key, value, module.layer_idx, sliding_window, kernel)
    shared = over_prefix(inputs, two_part) if two_part.prefix.length else None
    if kernel is not None and two_part.decoding:
        return by_kernel(kernel, inputs, shared, two_part), None
    return merge(own_part(inputs, two_part), shared).transpose(1, 2).contiguous(), None


def over_prefix(inputs: Inputs, step: Step) -> Part:
    """Over the shared keys, of all tokens."""
    prefix, mask = step.prefix, step.mask("prefix", inputs.window, inputs.query)
    if mask is None and inputs.kernel and prefix.pairs:
        return Part(*inputs.kernel.share(inputs.query, prefix.pairs[inputs.layer]))
    return shared_part(inputs.query, *prefix.layers[inputs.layer], mask, inputs.kernel)


def by_kernel(kernel: Kernel, inputs: Inputs, shared: Part | None, step: Step) -> Tensor:
    """The whole attention [1, N, H, D]: newest tokens by the kernel, which keeps their keys, and then new prompts."""
    assert step.cache is not None
    _, heads, count, dim = inputs.query.shape
    output = inputs.query.new_empty(1, count, heads, dim)
    new = step.decoding
    kernel.attend(step.cache, inputs.layer, step.places[:new], inputs[:3], shared, inputs.window, output)
    if step.padded is not None:
        started = inputs.after(new)
        keep(started, step, new)
        rest = None if shared is None else Part(shared.output[:, :, new:], shared.lse[:, :, new:])
        output[:, new:] = merge(padded_part(started, step), rest).transpose(1, 2)
    return output


def keep(inputs: Inputs, step: Step, start: int) -> None:
    """Store the keys and values of the tokens from `start` on, which are all of `inputs`."""
    if step.cache is not None and step.slots is not None:
        step.cache.keep(inputs.layer, step.slots[start:], step.places[start:], inputs.key, inputs.value)


def own_part(inputs: Inputs, step: Step) -> Part:
    """Over each sequence's own keys, the new ones included, which are kept."""
    import torch

    keep(inputs, step, 0)
    parts = []
    if step.decoding:
        assert step.cache is not None
        key, value = step.cache.view(inputs.layer, step.decoding, step.length)
        mask = step.mask("own", inputs.window, inputs.query)
        parts.append(decoded_part(inputs.query[:, :, : step.decoding], key, value, mask))
    if step.padded is not None:
        parts.append(padded_part(inputs.after(step.decoding), step))
    if len(parts) == 1:
        return parts[0]
    return Part(torch.cat([part.output for part in parts], 2), torch.cat([part.lse for part in parts], 2))


def padded_part(inputs: Inputs, step: Step) -> Part:
    """Among the tokens of each sequence of `step.padded`, which are all of `inputs`."""
    assert step.padded is not None
    padded, mask = step.padded, step.mask("padded", inputs.window, inputs.query)
    heads, dim = inputs.query.shape[1], inputs.query.shape[3]
    rows, size = padded.index.shape
    groups = heads // inputs.key.shape[1]
    query, key, value = (tensor[0][:, padded.index].transpose(0, 1) for tensor in inputs[:3])
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    output, lse = among_themselves(query, key, value, mask, inputs.kernel)
    output = output.transpose(0, 1).reshape(1, heads, rows * size, dim)
    lse = lse.transpose(0, 1).reshape(1, heads, rows * size)
    return Part(output[:, :, padded.cells], lse[:, :, padded.cells])
