"""A recipe's learned start inside the solver: what it proposes, what it costs, what it refuses."""

import pytest
import torch

from engine.correction.folder import CorrectionError, digest_of, load_correction, save_correction
from engine.correction.start import require_start
from engine.recipe import RecipeError, load_recipe
from engine.soft_prompt import STARTS, Origin
from engine.solver import Solver
from tests.engine.correction.networks import correction
from tests.engine.jobs import NEVER, K, job_of, slots_after, solve
from tests.engine.slow import seeded


@pytest.fixture(params=["corrector", "step"])
def folder(request, tmp_path, tiny_llama):
    save_correction(tmp_path, correction(tiny_llama, request.param), tiny_llama)
    return tmp_path


def learned(folder, **values):
    values = {"name": "learned", "folder": folder, "digest": digest_of(folder)} | values
    return [f"start.{name}={value}" for name, value in values.items()]


def first_slots(lm, *jobs):
    """Slots as they are admitted, before any step."""
    solver = Solver(lm)
    for job in jobs:
        solver.submit(job)
    solver._admit()
    return solver.active


def test_a_slot_starts_where_the_hypothesiser_says_alone_and_in_company(folder, tiny_llama):
    made = load_correction(folder, tiny_llama)
    jobs = [job_of(tiny_llama, text, *learned(folder)) for text in ("Ada!", "ab", "verbatim")]
    for job, slot in zip(jobs, first_slots(tiny_llama, *jobs), strict=True):
        (proposed_KD,) = made.first(tiny_llama, [slot.target_T], [K])
        assert torch.equal(slot.prompt_KD, proposed_KD)
        assert torch.equal(slot.prompt_KD, first_slots(tiny_llama, job)[0].prompt_KD)
        assert slot.positions == 0


def test_a_start_is_corrected_as_often_as_asked_and_every_look_is_counted(folder, tiny_llama):
    plain, corrected = (
        first_slots(tiny_llama, job_of(tiny_llama, "verbatim", *learned(folder, corrections=n)))[0] for n in (0, 3)
    )
    made = load_correction(folder, tiny_llama)
    found = made.iterate(tiny_llama, [plain.prompt_KD], [plain.target_T], 3)
    assert torch.equal(corrected.prompt_KD, found[3][0].prompt_KD)
    assert not torch.equal(corrected.prompt_KD, plain.prompt_KD)
    assert corrected.positions == 3 * plain.job.num_positions


def test_a_second_attempt_begins_elsewhere_and_the_third_elsewhere_again(folder, tiny_llama):
    starts = [
        first_slots(tiny_llama, job_of(tiny_llama, "Ada!", *learned(folder), attempt=n))[0].prompt_KD for n in range(3)
    ]
    assert not any(torch.equal(starts[a], starts[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_prompt_to_go_on_from_is_corrected_but_never_made_worse(folder, tiny_llama):
    given_KD = 0.1 * torch.ones(K, tiny_llama.hidden_size)
    as_given, corrected = (
        first_slots(tiny_llama, job_of(tiny_llama, "Ada!", *learned(folder, corrections=n), start_KD=given_KD))[0]
        for n in (0, 2)
    )
    assert torch.equal(as_given.prompt_KD, given_KD)
    made = load_correction(folder, tiny_llama)
    found = [situation for (situation,) in made.iterate(tiny_llama, [given_KD], [corrected.target_T], 2)]
    assert torch.equal(corrected.prompt_KD, max(found, key=lambda situation: situation.rank).prompt_KD)
    assert as_given.positions == 0 and corrected.positions == 3 * corrected.job.num_positions


def test_texts_are_solved_from_a_learned_start(folder, tiny_llama):
    attempts = solve(tiny_llama, *(job_of(tiny_llama, text, *learned(folder)) for text in ("Ada!", "ab")))
    assert all(attempt.is_greedy for attempt in attempts.values())


def test_a_slot_goes_on_from_a_checkpoint_without_its_start(folder, tiny_llama):
    job = job_of(tiny_llama, "Ada!", *learned(folder, corrections=1), *NEVER)
    (whole,) = slots_after(tiny_llama, 4, job)
    (half,) = slots_after(tiny_llama, 2, job)
    solver = Solver(tiny_llama)
    solver.restore(job, [half.state_dict()])
    for _ in range(2):
        solver.step()
    assert torch.equal(solver.active[0].prompt_KD, whole.prompt_KD) and solver.active[0].positions == whole.positions


def test_another_models_folder_is_refused_before_and_in_the_solver(folder, tiny_lm):
    other = tiny_lm("qwen3")
    job = job_of(other, "Ada!", *learned(folder))
    require_start(job.recipe.start)
    with pytest.raises(CorrectionError, match="trained through the model"):
        require_start(job.recipe.start, other.fingerprint)
    with pytest.raises(CorrectionError, match="trained through the model"):
        solve(other, job)


def test_what_is_no_folder_of_networks_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="a learned start needs the absolute path"):
        load_recipe(None, ["start.name=learned"])
    with pytest.raises(RecipeError, match="a learned start needs the absolute path"):
        load_recipe(None, ["start.name=learned", "start.folder=here"])
    with pytest.raises(CorrectionError, match="no correction.safetensors there"):
        require_start(load_recipe(None, ["start.name=learned", f"start.folder={tmp_path}"]).start)
    require_start(load_recipe().start, "any")


def test_recipes_without_it_are_what_they_were():
    assert "folder" not in load_recipe().canonical()["start"]
    assert "after_failure" not in load_recipe().canonical()


def test_the_same_start_by_its_name(folder, tiny_llama):
    recipe = load_recipe(None, learned(folder)).start
    target_T = torch.arange(9)
    (proposed_KD,) = load_correction(folder, tiny_llama).first(tiny_llama, [target_T], [K])
    for is_repeat in (False, True):
        origin = Origin(K, seeded(1), target_T, is_repeat=is_repeat, recipe=recipe)
        assert torch.equal(STARTS["learned"](tiny_llama, origin), proposed_KD) != is_repeat
