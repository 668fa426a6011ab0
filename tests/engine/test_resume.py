"""A slot's state, taken and given back: the path goes on bit for bit as if nothing had happened."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.checkpoint import Checkpoint, from_bytes, to_bytes
from engine.frozen_lm import FrozenLM
from engine.slots import Job, Slot
from engine.solver import Solver
from tests.engine.jobs import NEVER, job_of, slots_after, solve

STEPS_BEFORE, STEPS_AFTER = 5, 4
STAGED = (
    'stages=[{until=0.05, length_frac=0.5, set={parameterisation={name="mlp", width=0.25}, noise={kind="fixed"}}}, '
    '{until=0.08, set={context={name="scheduled_sampling"}}}, {until=1.0}]'
)

METHODS: dict[str, tuple[str, ...]] = {
    "adam": (),
    "momentum": ("optim.name=sgd", "optim.lr=0.1"),
    "polyak": ("optim.name=polyak", "loss.name=cross_entropy", "loss.temperature=0.5", "loss.patience=2"),
    "noise": ("noise.kind=sampled", "noise.prompt=0.1", "noise.read=0.1"),
    "scheduled sampling": ("context.name=scheduled_sampling", "context.own_token=sample", "optim.lr=0.5"),
    "drawn walk": ("context.name=gumbel_softmax", "loss.name=cross_entropy", "optim.lr=0.5"),
    "samples against each other": ("terms.rloo=0.5",),
    "samples against their past": ("terms.reinforce=0.5",),
    "judge": ("terms.professor_forcing=0.5",),
    "one token at a time": ("curriculum.growth=one_token",),
    "bisection": ("curriculum.growth=bisect", "curriculum.patience=2"),
    "network": ("parameterisation.name=mlp", "optim.lr=0.5"),
    "low rank": ("parameterisation.name=low_rank", "optim.lr=0.1"),
    "learned temperature": ("context.name=soft_decoding", "context.learn_temperature=true", "loss.name=cross_entropy"),
    "every so many steps": ("terms.autoregressive=0.5", "knobs.autoregressive_every=3"),
    "siblings": ("siblings=3",),
    "portfolio": ("siblings=2", 'portfolio=[{}, {set={optim={name="sgd", lr=0.1}, start={name="mean"}}}]'),
    "halving": ("siblings=4", "population.cull_after=7"),
    "evolution": ("siblings=4", "population.cull_after=3", "population.renewal=recombine"),
    "bounded positions": ("max_positions=300",),
    "stages": (STAGED,),
}


def resumed(lm: FrozenLM, job: Job, slots: list[Slot]) -> Solver:
    """A solver that goes on from what another process would read."""
    content = to_bytes(Checkpoint(job, [slot.state_dict() for slot in slots]))
    checkpoint = from_bytes(content, job.target)
    assert checkpoint is not None
    assert replace(checkpoint.job, start_KD=job.start_KD) == job
    solver = Solver(lm)
    solver.restore(*checkpoint)
    return solver


def same(ours: object, theirs: object) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if hasattr(ours, "prompt_KD"):
        return vars(ours).keys() == vars(theirs).keys() and same(vars(ours), vars(theirs))
    return ours == theirs


@pytest.mark.parametrize("method", METHODS)
def test_a_slot_goes_on_from_its_state_as_if_it_had_never_stopped(method, tiny_llama):
    job = job_of(tiny_llama, "Ada!", *METHODS[method], *NEVER)
    straight = slots_after(tiny_llama, STEPS_BEFORE + STEPS_AFTER, job)
    solver = resumed(tiny_llama, job, slots_after(tiny_llama, STEPS_BEFORE, job))
    (waiting,) = solver.waiting
    assert [state["step"] for state in waiting.states] == [STEPS_BEFORE] * job.recipe.siblings
    for _ in range(STEPS_AFTER):
        assert solver.step() == []
    for ours, theirs in zip(solver.active, straight, strict=True):
        assert torch.equal(ours.prompt_KD, theirs.prompt_KD)
        states = ours.state_dict(), theirs.state_dict()
        assert [name for name in states[0] if not same(states[0][name], states[1][name])] == []


def test_a_state_holds_everything_that_a_slot_changes(tiny_llama):
    """Whatever a step changes and the state leaves out would be lost."""
    job = job_of(tiny_llama, "Ada!", STAGED, *NEVER)
    (fresh,), (later,) = slots_after(tiny_llama, 1, job), slots_after(tiny_llama, 9, job)
    changed = {name for name in vars(fresh) if not same(vars(fresh)[name], vars(later)[name])}
    assert {"prompt_KD", "lesson", "step", "positions", "trained", "began"} <= changed
    assert changed - later.state_dict().keys() == {"admitted"}, "wall time alone is not carried over"


def test_a_resumed_attempt_ends_as_the_uninterrupted_one(tiny_llama):
    job = job_of(tiny_llama, "Ada!", "siblings=2")
    straight = solve(tiny_llama, job)["Ada!"]
    (attempt,) = resumed(tiny_llama, job, slots_after(tiny_llama, 3, job)).solve([])
    assert torch.equal(attempt.prompt_KD, straight.prompt_KD) and attempt.certificate == straight.certificate
    assert (attempt.steps, attempt.positions, attempt.exact_steps) == (
        straight.steps,
        straight.positions,
        straight.exact_steps,
    )


def test_a_slot_that_had_ended_has_ended_after_it_is_resumed(tiny_llama):
    job = job_of(tiny_llama, "Ada!", "max_steps=3", *NEVER)
    solver = Solver(tiny_llama)
    solver.submit(job)
    solver.step()
    (slot,) = solver.active
    (attempt,) = solver.solve([])
    (again,) = resumed(tiny_llama, job, [slot]).step()
    assert slot.has_ended and torch.equal(again.prompt_KD, attempt.prompt_KD) and again.positions == attempt.positions


def test_a_state_does_not_move_with_its_slot(tiny_llama):
    job = job_of(tiny_llama, "Ada!", "terms.rloo=0.5", *NEVER)
    solver = Solver(tiny_llama)
    solver.submit(job)
    solver.step()
    (slot,) = solver.active
    state, kept = slot.state_dict(), copy.deepcopy(slot.state_dict())
    solver.step()
    assert same(state, kept) and not same(slot.state_dict(), kept)


def test_states_for_another_number_of_siblings_are_refused(tiny_llama):
    job = job_of(tiny_llama, "Ada!", "siblings=2", *NEVER)
    states = [slot.state_dict() for slot in slots_after(tiny_llama, 1, job)]
    solver = Solver(tiny_llama)
    with pytest.raises(ValueError, match="1 states for 2 siblings"):
        solver.restore(job, states[:1])
    assert solver.is_idle


def test_a_solver_gives_a_checkpoint_of_every_attempt_in_its_table(tiny_llama):
    jobs = [job_of(tiny_llama, "Ada!", "siblings=2", *NEVER), job_of(tiny_llama, "Bob?", *NEVER)]
    solver = Solver(tiny_llama)
    for job in jobs:
        solver.submit(job)
    assert solver.checkpoints() == []
    solver.step()
    checkpoints = solver.checkpoints()
    assert [c.job for c in checkpoints] == jobs and [len(c.states) for c in checkpoints] == [2, 1]
    other = Solver(tiny_llama)
    for checkpoint in checkpoints:
        other.restore(*checkpoint)
    other.step()
    assert [slot.step for slot in other.active] == [2, 2, 2]


def test_an_attempt_that_goes_on_waits_for_room_like_any_other(tiny_llama):
    jobs = [job_of(tiny_llama, text, *NEVER) for text in ("Ada!", "Bob?")]
    states = [[slot.state_dict() for slot in slots_after(tiny_llama, 1, job)] for job in jobs]
    solver = Solver(tiny_llama, table_positions=jobs[0].num_positions)
    for job, state in zip(jobs, states, strict=True):
        solver.restore(job, state)
    solver.step()
    assert [slot.job for slot in solver.active] == jobs[:1] and [job for job, _ in solver.waiting] == jobs[1:]


def test_withdrawn_attempts_go_on_elsewhere_and_the_others_stay(tiny_llama):
    jobs = [job_of(tiny_llama, text, *NEVER) for text in ("Ada!", "Bob?", "Cleo")]
    solver = Solver(tiny_llama, table_positions=sum(job.num_positions for job in jobs[:2]))
    for job in jobs:
        solver.submit(job)
    solver.step()
    began, waited = solver.withdraw({jobs[0].key, jobs[2].key, "elsewhere"})
    assert (began.job, len(began.states)) == (jobs[0], 1) and waited == Checkpoint(jobs[2], [])
    solver.step()
    assert [slot.job for slot in solver.active] == [jobs[1]]
    other = Solver(tiny_llama)
    other.restore(*began)
    other.step()
    assert [slot.step for slot in other.active] == [2]
