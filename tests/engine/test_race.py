"""Ways of solving the same texts, raced: what wins, what is dropped, what is left behind."""

import pytest
import torch

from engine.certificate import Certificate
from engine.frozen_lm import FrozenLM
from engine.race import TOLERANCE, Arm, Race
from engine.recipe import Recipe
from engine.slots import Attempt, Job
from engine.solver import Solver
from engine.target import Target
from tests.engine.jobs import NEVER, job_of

ALL = 4


def arm(value: int, num_solved: int, spent: float, right_frac: float = 0.0) -> Arm:
    """A way that has ended: so many of `ALL` solved, at this cost."""
    job = Job(Target("a", "text", (1, 2, 3)), Recipe(), value)
    certificates = [Certificate(1.0, 3, 3) if n < num_solved else Certificate(-1.0, 1, 3) for n in range(ALL)]
    ended = [Attempt(job, torch.zeros(value, 5), certificate, 10, 1, 0.0) for certificate in certificates]
    return Arm(value, ALL, ended, spent, right_frac)


@pytest.mark.parametrize(
    ("arms", "winner"),
    [
        ([arm(1, ALL, 500.0), arm(2, ALL, 300.0), arm(4, ALL, 400.0)], 2),
        ([arm(1, ALL, 500.0), arm(2, ALL, 380.0), arm(4, ALL, 300.0)], 2),
        ([arm(1, ALL - 1, 100.0), arm(2, ALL, 300.0), arm(4, ALL, 200.0)], 4),
        ([arm(1, 0, 10.0), arm(2, ALL - 1, 10.0), arm(4, ALL - 2, 10.0)], 2),
        ([arm(1, 0, 10.0, 0.5), arm(2, 0, 90.0, 0.7), arm(4, 0, 10.0, 0.6)], 2),
        ([arm(1, 0, 10.0), arm(2, 0, 10.0), arm(4, 0, 10.0)], 4),
        ([arm(4, ALL, 10.0)], 4),
    ],
    ids=[
        "cost",
        "the earlier where the cost is alike",
        "exactness before cost",
        "most solved",
        "most tokens right",
        "the later on a tie",
        "one way",
    ],
)
def test_the_earliest_way_about_as_cheap_as_the_cheapest_wins(tiny_llama, arms, winner):
    race = Race(Solver(tiny_llama), {})
    race.arms = arms
    assert race.winner.value == winner


def test_an_exact_text_without_its_margin_is_not_solved():
    almost = arm(1, ALL, 10.0)
    almost.ended = [
        Attempt(a.job, a.prompt_KD, Certificate(0.1, 3, 3), a.steps, a.positions, a.seconds) for a in almost.ended
    ]
    assert all(attempt.is_candidate for attempt in almost.ended) and not almost.is_solved


TEXTS = ("Ada!", "ab")


def jobs(lm: FrozenLM, num_vectors: int, *sets: str) -> list[Job]:
    return [job_of(lm, text, *sets, num_vectors=num_vectors) for text in TEXTS]


def finish(race: Race) -> None:
    while not race.is_over:
        race.step()
    race.stop()


def test_a_race_finds_what_running_all_ways_to_their_end_finds_and_costs_less(tiny_llama):
    ways = {size: jobs(tiny_llama, size) for size in (1, 4, 8)}
    raced = Solver(tiny_llama)
    race = Race(raced, ways)
    finish(race)
    in_full = {size: Solver(tiny_llama).solve(mine) for size, mine in ways.items()}
    cost = {size: sum(a.positions for a in mine) for size, mine in in_full.items() if all(a.is_candidate for a in mine)}
    assert cost[race.winner.value] <= TOLERANCE * min(cost.values())
    assert raced.is_idle and raced.num_positions == sum(arm.spent for arm in race.arms)
    assert raced.num_positions < sum(a.positions for mine in in_full.values() for a in mine)


def test_a_way_that_cannot_win_any_more_is_dropped_at_once(tiny_llama):
    endless = jobs(tiny_llama, 8, *NEVER, "max_steps=10000")
    race = Race(Solver(tiny_llama), {5: jobs(tiny_llama, 5), 8: endless})
    finish(race)
    first, second = race.arms
    assert first.is_solved and second.is_out and race.winner is first
    passes = 1 + max(attempt.steps for attempt in first.ended)
    assert second.spent == passes * sum(job.num_positions for job in endless)


def test_a_way_that_does_not_move_is_dropped_at_the_second_look(tiny_llama):
    still = jobs(tiny_llama, 8, "optim.lr=1e-9", "max_steps=1000")
    race = Race(Solver(tiny_llama), {8: still})
    finish(race)
    assert race.arms[0].is_out and race.arms[0].spent == 16 * sum(job.num_positions for job in still)


def test_a_way_with_far_fewer_tokens_right_than_the_leader_is_dropped_at_a_look(tiny_llama):
    behind = jobs(tiny_llama, 4, *NEVER, "optim.lr=1e-9", "max_steps=1000")
    race = Race(Solver(tiny_llama), {4: behind, 5: jobs(tiny_llama, 5, *NEVER, "max_steps=64")})
    for _ in range(8):
        race.step()
    assert [arm.is_out for arm in race.arms] == [True, False]
    race.stop()


def test_a_table_too_small_for_all_ways_at_once_still_ends(tiny_llama):
    solver = Solver(tiny_llama, table_positions=12)
    race = Race(solver, {size: jobs(tiny_llama, size) for size in (5, 8)})
    finish(race)
    assert solver.is_idle and race.winner.is_solved
