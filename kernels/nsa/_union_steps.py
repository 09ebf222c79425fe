"""How the blocks of a tile of queries make steps of two, and which of these a warpgroup takes.

First come the blocks that every query selected and sees to the end; then others that both halves of
the queries have; then a step of the first half's alone and one of the second's in turn, which the
other half's warpgroup passes by. `Deal` says where a block stands, `Part` which steps are a
warpgroup's. All of it holds of Python's integers as of a program's.
"""

from typing import Any, NamedTuple

import tilelang.language as T

BLOCKS = 2  # of a step
# Columns of a step in the plan: first keys of its blocks, and which queries selected them.
KEY, MASK = 0, BLOCKS
# Columns of the plan's list of tiles. Of which; how many blocks every query sees whole; and steps:
# of both halves of the queries, of the first half alone, and of the second.
TILE, HEAD, BATCH, COMPLETE, SHARED, FIRST, SECOND = range(7)
WORK = 8
# Of the steps that one half has alone, so many more than the other has. A warpgroup passes them by
# before it multiplies what it holds, so with four the other one may wait for a stage for ever.
MOST_MORE = 2


def steps_of(blocks):
    """So many steps hold them."""
    return (blocks + 1) >> 1


def lend(shared, first, second):
    """How many blocks of the first half alone, and of the second, stand in steps of both.

    One to complete an odd number of `shared` ones, and pairs of the half that has too many more.
    """
    first_in = shared & first & 1
    second_in = shared & second & 1 & (first_in ^ 1)
    more = steps_of(first - first_in) - steps_of(second - second_in)
    return (
        first_in + 2 * T.max(more - MOST_MORE, 0),
        second_in + 2 * T.max(-more - MOST_MORE, 0),
    )


class Deal(NamedTuple):
    """How many blocks of a tile are whose."""

    shared: Any
    """Both halves'."""
    first: Any
    """The first half's alone."""
    second: Any
    first_in: Any
    """Of `first`, those in steps of both: see `lend`."""
    second_in: Any

    @property
    def in_shared(self) -> Any:
        """Blocks in steps of both."""
        return self.shared + self.first_in + self.second_in

    @property
    def first_steps(self) -> Any:
        """Of the first half alone."""
        return steps_of(self.first - self.first_in)

    @property
    def second_steps(self) -> Any:
        return steps_of(self.second - self.second_in)

    def step(self, is_first: Any, i: Any) -> Any:
        """The i-th that a half has alone."""
        others = T.if_then_else(
            is_first, T.min(i, self.second_steps), T.min(i + 1, self.first_steps)
        )
        return steps_of(self.in_shared) + i + others

    def place(self, is_first: Any, rank: Any) -> Any:
        """Of a half's own block number `rank`: twice its step, and 1 more if it comes second."""
        number = rank - T.if_then_else(is_first, self.first_in, self.second_in)
        among_shared = self.shared + T.if_then_else(is_first, 0, self.first_in) + rank
        alone = BLOCKS * self.step(is_first, number >> 1) + (number & 1)
        return T.if_then_else(number < 0, among_shared, alone)


class Part(NamedTuple):
    """The steps of a tile that a warpgroup takes: all, or not those of the other one of two.

    Then those before `until` are both's, and they take them in turn; behind them a step of the
    first warpgroup alone and one of the second's alternate for as long as there are both.
    """

    count: Any
    until: Any = None
    which: Any = 0
    others: Any = 0
    """Steps that are the other warpgroup's alone."""

    @property
    def passes(self) -> bool:
        """Whether some steps may be the other warpgroup's."""
        return self.until is not None

    def at(self, m: Any) -> Any:
        """The m-th step."""
        if not self.passes:
            return m
        passed = T.min(m - self.until + self.which, self.others)
        return m + T.if_then_else(m >= self.until, passed, 0)

    def in_turn(self, m: Any) -> Any:
        """Whether the m-th step is taken in turn."""
        return m < self.until if self.passes else True

    @property
    def total(self) -> Any:
        """Steps of the tile."""
        return self.count + self.others


def part_of(work, which=0):
    """The steps of a listed tile that warpgroup `which` of two takes."""
    own = T.if_then_else(which == 0, work[FIRST], work[SECOND])
    return Part(work[SHARED] + own, work[SHARED], which, work[FIRST] + work[SECOND] - own)
