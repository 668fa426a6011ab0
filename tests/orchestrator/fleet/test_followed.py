"""Attempts are followed while a real solver works on them, and nothing else is."""

from engine.recipe import Recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target
from engine.trajectory import Trajectory
from orchestrator.fleet.followed import Followed


def test_an_attempt_has_a_frame_for_each_of_its_steps_and_its_last_is_what_was_certified(tiny_llama):
    solver, followed = Solver(tiny_llama), Followed()
    solver.on_measured = followed.measured
    jobs = [Job(Target(id, id, (5, 6, 7, 3)), Recipe(max_steps=6, end_of_text=False), 3) for id in ("a", "probe")]
    followed.begin("a")
    (first, _) = solver.solve(jobs)
    (trajectory,) = followed.take("a").values()
    assert trajectory.steps[0] == 0 and trajectory.steps == list(range(len(trajectory.steps)))
    assert {len(frame) for frame in trajectory.frames} == {4}
    assert trajectory.steps[-1] == first.steps and followed.take("a") == followed.take("probe") == {}


def test_of_several_siblings_the_one_whose_prompt_is_kept_is_followed(tiny_llama):
    solver, followed, measured = Solver(tiny_llama), Followed(), {}

    def on_measured(slot, margin_T):
        followed.measured(slot, margin_T)
        measured.setdefault(slot.sibling, []).append(margin_T)

    solver.on_measured = on_measured
    recipe = Recipe(max_steps=6, end_of_text=False, siblings=4)
    winners = set()
    for number in range(6):
        measured.clear()
        followed.begin(id := f"text-{number}")
        (attempt,) = solver.solve([Job(Target(id, id, (5, 6 + number, 7, 3)), recipe, 3)])
        (trajectory,) = followed.take(id).values()
        winners.add(attempt.sibling)
        expected = Trajectory()
        for step, margin_T in enumerate(measured[attempt.sibling]):
            expected.add(step, margin_T)
        assert trajectory.frames == expected.end().frames
    assert winners > {0}, "in this test the first sibling must not win all"


def test_what_went_elsewhere_is_forgotten(tiny_llama):
    followed = Followed()
    followed.begin("a")
    followed.forget(["a", "never seen"])
    assert followed.take("a") == {}
