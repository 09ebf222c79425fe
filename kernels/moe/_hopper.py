"""What Hopper's two families of grouped GEMMs share: stages, and who waits for whom.

A CTA has one producer warp and one or two consumer warpgroups. Stage s of the pipeline is handed
over by two barriers: `full[s]` (its bytes have arrived) and `empty[s]` (every consumer warp is
done with it). Steps are numbered across tiles, so the producer runs ahead into the next tile.

All waiting is written out, so TileLang must neither split warps nor add barriers of its own.
"""

from typing import Any, NamedTuple

import tilelang.language as T

from ..common.dialect import BY_ROLE

MANUAL = {
    **BY_ROLE,
    "tl.disable_thread_storage_sync": True,
    "tl.disable_shared_memory_reuse": True,
    "tl.enable_fast_math": True,  # exp2 and division in the activation: an ulp or two in fp32
}
BLOCK_K = 64  # of a stage: the 128 bytes that shared memory is swizzled over
GROUP = 64  # rows of a wgmma, and of a consumer's share of a tile
PRODUCER_REGISTERS = 40
CONSUMER_REGISTERS = 232
BOTH = 0b11  # the CTAs of a cluster, as a mask


@T.macro
def load(source, tile, full, stage, mask=None):
    """The producer warp loads a tile of `stage`; `mask` names the CTAs of the cluster to get it."""
    T.tma_copy(
        source,
        tile,
        barrier=full[stage],
        cluster_mask=mask,
        leader_scope_threads=32,
    )


@T.macro
def acquire(empty, number, stages: int):
    """The producer waits until the stage of step `number` may be overwritten."""
    T.mbarrier_wait_parity(empty[T.truncmod(number, stages)], (T.truncdiv(number, stages) & 1) ^ 1)


@T.macro
def await_full(full, number, stages: int):
    """A consumer waits until the stage of step `number` is loaded."""
    T.mbarrier_wait_parity(full[T.truncmod(number, stages)], T.truncdiv(number, stages) & 1)


@T.macro
def release(empty, number, stages: int):
    """A consumer gives the stage of step `number` back; one thread speaks for its warp."""
    if T.get_thread_binding() % 32 == 0:
        T.mbarrier_arrive(empty[T.truncmod(number, stages)])


@T.macro
def skip(full, empty, count, steps: int, stages: int):
    """Give every stage back to both CTAs unread: this one's part of the pair's tiles has no row."""
    for k in T.serial(steps):
        await_full(full, count + k, stages)
        release_pair(empty, count + k, stages)


@T.macro
def release_pair(empty, number, stages: int):
    """The same towards both CTAs of a cluster, since one of them loads weights for both."""
    lane = T.get_thread_binding() % 32
    if lane < 2:
        T.mbarrier_arrive(empty[T.truncmod(number, stages)], lane)


def turns(cta, sms: int, items):
    """How many of `items` pieces of work fall to CTA `cta`: cta, cta + sms, ..."""
    return T.truncdiv(items - cta + sms - 1, sms)


class Team(NamedTuple):
    """Who works on one piece of work: a CTA, or a cluster of two that shares its weights."""

    sms: int
    pair: bool

    @property
    def size(self) -> int:
        return 2 if self.pair else 1

    @property
    def mask(self) -> int | None:
        """Of `load`, for what all of the team read."""
        return BOTH if self.pair else None

    def rank(self, cta: Any) -> Any:
        """Which of the team `cta` is."""
        return T.truncmod(cta, 2) if self.pair else 0

    def number(self, cta: Any, turn: Any) -> Any:
        """The team's piece of work in its `turn`."""
        return T.truncdiv(cta, self.size) + turn * (self.sms // self.size)

    def turns(self, cta: Any, items: Any) -> Any:
        """How many of `items` pieces of work fall to the team."""
        return turns(T.truncdiv(cta, self.size), self.sms // self.size, items)

    def barrier(self, arrivals: list[int]) -> Any:
        """Barriers that all of the team arrive at."""
        return T.alloc_cluster_barrier(arrivals) if self.pair else T.alloc_barrier(arrivals)
