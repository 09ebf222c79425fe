"""Which blocks the queries of nsa `selected` select: every pattern, without a loop over tokens."""

from __future__ import annotations

import torch

from ..ops.nsa import SelectedParams, SelectedRecipe


def block_indices(
    params: SelectedParams, recipe: SelectedRecipe, source: torch.Generator
) -> torch.Tensor:
    """The recipe's pattern, int32 [B, T, H, S] on the generator's device.

    Places that select nothing hold `seqlen`, as the contest's sample has it: a block that starts
    at or past the end at any block size.
    """
    indices = _PATTERNS[recipe.pattern](_Draw(params, recipe, source))  # [B, T, H, S] int64
    return indices.to(torch.int32)


class _Draw:
    """What every pattern needs: sizes, the query's own block, and random numbers."""

    def __init__(
        self, params: SelectedParams, recipe: SelectedRecipe, source: torch.Generator
    ) -> None:
        self.shape = (params.batch, params.seqlen, params.kv_heads, params.selected)
        self.slots = params.selected
        self.empty = params.seqlen
        self.redraw = recipe.redraw
        self.source = source
        self.device = source.device
        block = torch.arange(params.seqlen, device=self.device) // params.block_size
        self.own = block.view(1, -1, 1)  # [1, T, 1], of [B, T, H]
        self.blocks = -(-params.seqlen // params.block_size)

    def uniform(self, width: int) -> torch.Tensor:
        """[B, T, H, width] fp32 in [0, 1)."""
        shape = (*self.shape[:3], width)
        return torch.rand(shape, generator=self.source, device=self.device)

    def below(self, width: int, bound: torch.Tensor | int) -> torch.Tensor:
        """[B, T, H, width] int64 in [0, bound); 0 where bound is 0."""
        # fp32 times a bound can round up to the bound itself, hence the clamp.
        draw = (self.uniform(width) * bound).long()
        return torch.minimum(draw, torch.as_tensor(bound, device=self.device) - 1).clamp_(min=0)

    def subset(self, width: int, first: int, count: torch.Tensor) -> torch.Tensor:
        """`width` of the blocks first .. first + count - 1, each set equally likely, unsorted.

        count: [1, T, 1]; where it is below `width`, all blocks and then `empty`. Robert Floyd's
        method: step i draws from the lowest count - width + i + 1 blocks and, if that one is
        taken, takes the highest of them, which cannot be.
        """
        chosen = torch.full((*self.shape[:3], width), -1, device=self.device)  # int64
        for i in range(width):
            top = count - count.clamp(max=width) + i  # highest candidate
            draw = self.below(1, top.unsqueeze(-1) + 1).squeeze(-1)  # [B, T, H]
            taken = (chosen[..., :i] == draw.unsqueeze(-1)).any(-1)
            draw = torch.where(taken, top, draw)
            chosen[..., i] = torch.where(top < count, draw, -1)
        return torch.where(chosen < 0, self.empty, chosen + first)

    def pinned(self, between: torch.Tensor) -> torch.Tensor:
        """First block, own block and `between`, cut to S. [B, T, H, S] unsorted."""
        own = self.own.unsqueeze(-1).expand(*self.shape[:3], 1)
        first = torch.where(own > 0, 0, self.empty)
        return torch.cat([own, first, between], dim=-1)[..., : self.slots]


def _random(draw: _Draw) -> torch.Tensor:
    return draw.subset(draw.slots, 0, draw.own.clamp(min=1)).sort(-1).values


def _random_pinned(draw: _Draw) -> torch.Tensor:
    between = draw.subset(max(0, draw.slots - 2), 1, (draw.own - 1).clamp(min=0))
    return draw.pinned(between).sort(-1).values


def _local(draw: _Draw) -> torch.Tensor:
    own = draw.own.unsqueeze(-1)  # [1, T, 1, 1]
    back = own - draw.slots + torch.arange(draw.slots, device=draw.device)
    back = torch.where(back < 0, draw.empty, back)
    back[..., 0] = torch.where(own[..., 0] == 0, 0, back[..., 0])
    return back.sort(-1).values.expand(draw.shape)


def _clustered(draw: _Draw) -> torch.Tensor:
    """Slots that live on from query to query.

    Slot s of n draws from the blocks 1 + s, 1 + s + n, 1 + s + 2n, ... before the query's own:
    every block is equally likely, and as no two slots share a block none is selected twice, which
    a chain of independent draws could only avoid query by query.
    """
    n = draw.slots - 2
    if n <= 0:
        return _random_pinned(draw)
    slot = torch.arange(n, device=draw.device)
    # How many blocks each slot may draw from, [1, T, 1, n]
    count = (draw.own.unsqueeze(-1) - 2 - slot).div(n, rounding_mode="floor") + 1
    block = 1 + slot + n * draw.below(n, count)
    event = draw.uniform(n) < draw.redraw
    event[:, :1] = True
    event[:, 1:] |= (count[:, 1:] > 0) & (count[:, :-1] <= 0)  # the slot's first block appears
    time = torch.arange(draw.shape[1], device=draw.device).view(1, -1, 1, 1)
    live = torch.where(event, time, 0).cummax(dim=1).values  # the query that drew the block
    kept = torch.where(count > 0, block.gather(1, live), draw.empty)
    return draw.pinned(kept).sort(-1).values


def _unsorted(draw: _Draw) -> torch.Tensor:
    order = draw.uniform(draw.slots).argsort(-1)
    return _random_pinned(draw).gather(-1, order)


def _repeated(draw: _Draw) -> torch.Tensor:
    """Half the places copy another place of the same query."""
    indices = _unsorted(draw)
    copied = indices.gather(-1, draw.below(draw.slots, draw.slots))
    return torch.where(draw.uniform(draw.slots) < 0.5, copied, indices)


def _future(draw: _Draw) -> torch.Tensor:
    """A third of the places name a block after the query's own; some of them are past the end."""
    own = draw.own.unsqueeze(-1)
    later = own + 1 + draw.below(draw.slots, draw.blocks - own + 2)
    return torch.where(draw.uniform(draw.slots) < 1 / 3, later, _unsorted(draw))


def _negative(draw: _Draw) -> torch.Tensor:
    """A third of the places are negative, half of those -1."""
    below = -1 - draw.below(draw.slots, 2) * draw.below(draw.slots, draw.empty)
    return torch.where(draw.uniform(draw.slots) < 1 / 3, below, _unsorted(draw))


def _none(draw: _Draw) -> torch.Tensor:
    """A third of the queries select nothing in one KV head, by `empty` and by -1."""
    nothing = draw.uniform(1) < 1 / 3
    nothing[:, 0] = nothing[:, -1] = True
    blank = torch.where(draw.uniform(draw.slots) < 0.5, draw.empty, -1)
    return torch.where(nothing, blank, _unsorted(draw))


_PATTERNS = {
    "random": _random,
    "random_pinned": _random_pinned,
    "local": _local,
    "clustered": _clustered,
    "unsorted": _unsorted,
    "repeated": _repeated,
    "future": _future,
    "negative": _negative,
    "none": _none,
}
