"""How the blocks of a tile make steps for two warpgroups (kernels/nsa/_union_steps.py).

The plan and the walk that share these rules run on a GPU only; here they are held against each
other, and against a model of the walk's barriers.
"""

from __future__ import annotations

import importlib
import itertools
import random
from collections import Counter

import pytest

from mxbench import kernel as kernels
from mxbench import workspace

WORKSPACE = workspace.bundled()
kernels.load(kernels.find(WORKSPACE, "nsa", "hopper"), WORKSPACE.kernels)
STEPS = importlib.import_module(f"{kernels.PACKAGE}.nsa._union_steps")
UNION = importlib.import_module(f"{kernels.PACKAGE}.nsa._union")

BOTH, FIRST, SECOND = "both", "first", "second"
COUNTS = list(itertools.product(range(6), range(14), range(14)))
"""(blocks of both halves, of the first alone, of the second alone)"""


def deal(shared: int, first: int, second: int):
    return STEPS.Deal(shared, first, second, *map(int, STEPS.lend(shared, first, second)))


def entry(counts: tuple[int, int, int]) -> list[int]:
    """The plan's entry of a tile, as far as it tells of steps."""
    made = deal(*counts)
    work = [0] * STEPS.WORK
    work[STEPS.SHARED] = int(STEPS.steps_of(made.in_shared))
    work[STEPS.FIRST] = int(made.first_steps)
    work[STEPS.SECOND] = int(made.second_steps)
    return work


def part(counts: tuple[int, int, int], which: int):
    """What warpgroup `which` takes: (its steps, how many of them in turn, how many there are)."""
    found = STEPS.part_of(entry(counts), which)
    count = int(found.count)
    in_turn = sum(bool(found.in_turn(m)) for m in range(count))
    return [int(found.at(m)) for m in range(count)], in_turn, int(found.total)


def laid_out(shared: int, first: int, second: int) -> list[list[str]]:
    """Whose the blocks of each step are."""
    made = deal(shared, first, second)
    places = {place: BOTH for place in range(shared)}
    for is_first, own in ((True, first), (False, second)):
        for rank in range(own):
            place = int(made.place(is_first, rank))
            assert place not in places
            places[place] = FIRST if is_first else SECOND
    ends = [STEPS.steps_of(made.in_shared) - 1] * (made.in_shared & 1)
    ends += [made.step(True, made.first_steps - 1)] * ((first - made.first_in) & 1)
    ends += [made.step(False, made.second_steps - 1)] * ((second - made.second_in) & 1)
    for step in map(int, ends):  # as the plan ends them
        assert 2 * step + 1 not in places
        places[2 * step + 1] = ""
    assert sorted(places) == list(range(len(places)))  # no step lacks what the plan does not add
    return [[places[2 * n], places[2 * n + 1]] for n in range(len(places) // 2)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_warpgroup_takes_every_step_but_those_of_the_other_half_alone(which):
    other = (SECOND, FIRST)[which]
    for counts in COUNTS:
        taken, in_turn, total = part(counts, which)
        steps, of_both = laid_out(*counts), entry(counts)[STEPS.SHARED]
        assert total == len(steps)
        assert in_turn == of_both, counts
        theirs = [n for n in range(of_both, total) if set(steps[n]) <= {other, ""}]
        assert taken == [n for n in range(total) if n not in theirs], counts
        assert not any(other in steps[n] for n in taken[of_both:]), counts


def test_blocks_of_one_half_stand_in_steps_of_both_only_as_far_as_the_rule_says():
    for counts in COUNTS:
        steps, work = laid_out(*counts), entry(counts)
        assert abs(work[STEPS.FIRST] - work[STEPS.SECOND]) <= STEPS.MOST_MORE
        assert sum("" in step for step in steps) <= 3
        if abs(counts[1] - counts[2]) < 2 * STEPS.MOST_MORE:  # neither half has too many
            lent = sum(
                step.count(FIRST) + step.count(SECOND) for step in steps[: work[STEPS.SHARED]]
            )
            assert lent == counts[0] & (counts[1] | counts[2]) & 1, counts  # odd completes odd


@pytest.mark.parametrize(("queries", "count"), [(2, 4), (8, 16), (8, 13), (2, 5)])
def test_there_is_room_for_the_steps_of_blocks_that_all_differ(queries, count):
    entries = queries * count
    for first in range(entries + 1):
        for shared in range(entries - first + 1):
            work = entry((shared, first, entries - first - shared))
            steps = work[STEPS.SHARED] + work[STEPS.FIRST] + work[STEPS.SECOND]
            assert steps <= UNION.room(queries, count)


# ---- a model of the barriers ----


class Stuck(Exception):
    """Everybody waits."""


def run(tiles: list[tuple[int, int, int]], stages: int) -> None:
    """The producers' and consumers' waits over some tiles; Stuck if one never ends.

    A wait is for a count that never falls, so who comes first cannot decide whether it ends.
    """
    counts: Counter[tuple[str, int]] = Counter()
    total = sum(part(tile, 0)[2] for tile in tiles)
    counts["turn", 0] = 1  # the last warpgroup gives it

    def produce(name):
        for n in range(total):
            for which in (0, 1):
                yield (f"{name} given", which), n + 1 - stages
            counts[f"{name} filled", 0] += 1

    def pass_by(name, which, start, end):
        for n in range(start, end):
            yield (f"{name} filled", 0), n + 1
            counts[f"{name} given", which] += 1

    def consume(which):
        base, turns = 0, 0
        for tile in tiles:
            taken, in_turn, length = part(tile, which)
            before = None
            for m, n in enumerate(base + n for n in taken):
                if before is None:
                    yield from pass_by("k", which, base, n)
                    yield from pass_by("v", which, base, n)
                    yield ("k filled", 0), n + 1
                    counts["k given", which] += 1
                else:
                    yield from pass_by("k", which, before + 1, n)
                    yield ("k filled", 0), n + 1
                    if m < in_turn:
                        turns += 1
                        yield ("turn", which), turns
                    yield ("v filled", 0), before + 1
                    if m < in_turn:
                        counts["turn", 1 - which] += 1
                    counts["k given", which] += 1
                    counts["v given", which] += 1
                    yield from pass_by("v", which, before + 1, n)
                before = n
            if before is None:
                yield from pass_by("k", which, base, base + length)
                yield from pass_by("v", which, base, base + length)
            else:
                yield from pass_by("k", which, before + 1, base + length)
                yield ("v filled", 0), before + 1
                counts["v given", which] += 1
                yield from pass_by("v", which, before + 1, base + length)
            base += length

    waiting = {
        actor: next(actor, None) for actor in (produce("k"), produce("v"), consume(0), consume(1))
    }
    while any(waiting.values()):
        ready = [a for a, wait in waiting.items() if wait and counts[wait[0]] >= wait[1]]
        if not ready:
            raise Stuck(tiles)
        for actor in ready:
            waiting[actor] = next(actor, None)
    assert all(counts[f"{name} given", which] == total for name in "kv" for which in (0, 1))


def draws(number: int):
    draw = random.Random(1)
    for _ in range(number):
        yield [draw.choice(COUNTS) for _ in range(draw.randint(1, 3))]


@pytest.mark.parametrize("stages", [2, 4])
def test_no_order_of_steps_locks_the_walk_up(stages):
    for tiles in draws(400):
        run(tiles, stages)


def test_the_model_locks_up_where_one_half_may_have_many_steps_more(monkeypatch):
    monkeypatch.setattr(STEPS, "MOST_MORE", 4)
    with pytest.raises(Stuck):
        for tiles in draws(400):
            run(tiles, 2)
