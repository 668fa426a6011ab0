"""The ablation to the margin: equal budgets for every row, and no row that measures nothing."""

import json
from dataclasses import replace

import pytest

from bench import ablation_to_margin
from bench.ablation_margin_report import refuse_equal, table
from bench.ablation_to_margin import arguments, cases, figures, is_cheap, job_of, rows, run, said
from engine.recipe import Recipe, load_recipe
from tests.engine.jobs import NEVER, PINNED

PASSES = 6


def test_every_row_is_another_recipe_and_the_default_is_the_first():
    made = rows()
    assert next(iter(made)) == "default" and made["default"][1] == Recipe()
    hashes = [recipe.hash for _, recipe in made.values()]
    assert len(made) == len(set(hashes)) > 70
    slow = {name for name, (_, recipe) in made.items() if not is_cheap(recipe)}
    assert {"soft decoding", "MIXER with RLOO", "free running", "+ RLOO 0.1", "four_stage"} <= slow
    assert not {"default", "MLP", "tuned_losses", "4 siblings, halved"} & slow


def test_cases_turn_through_lengths_vectors_and_streams_and_take_each_text_once(tiny_llama, monkeypatch):
    sentences = [f"{letter * 3} bc def gh" for letter in "acdefghijkmn"]
    monkeypatch.setattr(ablation_to_margin, "sentences", lambda: sentences)
    monkeypatch.setattr(ablation_to_margin, "LENGTHS", (4, 7))
    made = list(cases(tiny_llama.token_rule))
    assert [len(case.target.token_ids) for case in made[:4]] == [4, 7, 4, 7]
    assert [case.num_vectors for case in made[:4]] == [1, 1, 2, 3]
    assert [case.stream for case in made] == [0] * 4 + [1] * 4 + [0] * 4
    assert len({case.target.id for case in made}) == 12


def test_every_row_gets_the_same_positions_whatever_its_siblings(tiny_llama, monkeypatch):
    monkeypatch.setattr(ablation_to_margin, "sentences", lambda: ["aaa bc", "bbb cd"])
    monkeypatch.setattr(ablation_to_margin, "LENGTHS", (4,))
    monkeypatch.setattr(ablation_to_margin, "STOP_MARGIN", 100.0)
    more = {"one": (), "two": ("siblings=2",), "halved": ("siblings=2", "population.cull_after=2")}
    chosen = {name: load_recipe(None, [*PINNED, *NEVER, *sets]) for name, sets in more.items()}
    args = arguments(["--minutes", "1", "--passes", str(PASSES), "--table", "100"])
    by_case = run(tiny_llama, chosen, args)
    assert list(by_case) == [0, 1]
    for by_name in by_case.values():
        assert {name: a.positions / a.job.budget for name, a in by_name.items()} == {"one": 1, "two": 1, "halved": 1}
    row = figures(tiny_llama, by_case, "two", PASSES)
    assert (row["done"], row["certified"], row["said"]) == (0, row["said"], row["certified"])
    assert [case[2:] for case in row["cases"]] == [[False, PASSES]] * 2


def test_what_is_certified_is_decoded_and_another_prompt_is_told_from_it(tiny_llama, monkeypatch):
    monkeypatch.setattr(ablation_to_margin, "sentences", lambda: ["aaa bc", "bbb cd"])
    monkeypatch.setattr(ablation_to_margin, "LENGTHS", (4,))
    args = arguments(["--minutes", "1", "--passes", "150", "--table", "100"])
    by_case = run(tiny_llama, {"default": load_recipe(None, [*PINNED, "stop_margin=0.1"])}, args)
    row = figures(tiny_llama, by_case, "default", 150)
    assert (row["certified"], row["said"]) == (2, 2)
    ended = [by_name["default"] for by_name in by_case.values()]
    swapped = [replace(a, prompt_KD=other.prompt_KD) for a, other in zip(ended, ended[::-1], strict=True)]
    assert said(tiny_llama, ended) == [True, True] and said(tiny_llama, swapped) == [False, False]


def test_a_row_that_is_another_one_case_by_case_is_refused():
    one, other = {"cases": [[8, 2, True, 10.0]]}, {"cases": [[8, 2, True, 11.0]]}
    refuse_equal("pocket", {"default": one, "p 2": other})
    with pytest.raises(ValueError, match="pocket: row 'p 6' is row 'default' case by case"):
        refuse_equal("pocket", {"default": one, "p 2": other, "p 6": json.loads(json.dumps(one))})


def test_the_table_has_the_models_side_by_side():
    def record(passes, **more):
        by_name = {"default": [10.0, 30.0], **more}
        return {"rows": {name: {"group": "loss", "done": 2, "cases": [[8, 2, True, p] for p in by]}
                         for name, by in by_name.items()}}  # fmt: skip

    text = table({"pocket": record(0, cheap=[5.0, 15.0]), "smollm2": record(0, dear=[20.0, 60.0])})
    assert "| cheap | loss | 2 of 2 | 0.50 (0.50-0.50) | - | - |" in text
    assert "| dear | loss | - | - | 2 of 2 | 2.00 (2.00-2.00) |" in text
    assert text.index("| cheap") < text.index("| default") < text.index("| dear")


def test_a_budget_is_shared_by_siblings_that_all_run_to_its_end(tiny_llama):
    (case, *_) = cases(tiny_llama.token_rule)
    plain, two, halved = (
        job_of("row", load_recipe(None, sets), 0, case, 10)
        for sets in ([], ["siblings=2"], ["siblings=2", "population.cull_after=2"])
    )
    assert plain.budget == two.budget == halved.budget == plain.recipe.max_positions == halved.recipe.max_positions
    assert 2 * two.recipe.max_positions == plain.recipe.max_positions
