"""The comparison of one attempt, restarts and populations: equal work, the same texts, nothing but torch needed."""

import json
import subprocess
import sys
from dataclasses import replace

import torch

from bench import populations
from bench.english import FILE, sentences
from bench.populations import BASE, WAYS, Case, Comparison, recipes, summary
from engine.recipe import load_recipe
from engine.slots import Attempt, Job
from tests.engine.jobs import NEVER, PINNED, job_of

PASSES = 24


def test_every_way_spends_its_budget_and_no_more_than_the_last_pass_beyond_it(tiny_llama):
    by_way = recipes(list(WAYS), PASSES, [*PINNED[1:], *NEVER])
    targets = [job_of(tiny_llama, text).target for text in ("Ada!", "verbatim")]
    cases = Comparison(tiny_llama, by_way, [2.0], table=400, passes=PASSES).run(targets, 60.0, lambda step: None)
    assert {(case.place, case.way) for case in cases} == {(place, way) for place in (0, 1) for way in WAYS}
    for case in cases:
        siblings = by_way[case.way].siblings
        one_pass = case.budget / PASSES
        assert not case.is_solved and case.has_ended and case.num_attempts >= 1
        assert (PASSES - siblings) * one_pass <= case.spent <= case.budget + siblings * one_pass, case.way
    (once,) = (case for case in cases if (case.place, case.way) == (0, BASE))
    assert once.num_attempts == 1 and once.spent == once.budget


def test_what_follows_an_attempt_has_another_stream_other_members_and_what_is_left(tiny_llama):
    job = replace(job_of(tiny_llama, "Ada!", "siblings=2", "max_steps=2", *NEVER), budget=900.0)
    attempt = Attempt(job, torch.zeros(job.num_vectors, tiny_llama.hidden_size), None, 2, 400, 0.0)
    case = Case("restarts", 2.0, 0, budget=900.0)
    follower = case.follow(attempt)
    assert isinstance(follower, Job)
    assert (follower.attempt, follower.member, follower.budget, follower.num_vectors) == (1, 2, 500.0, job.num_vectors)
    assert case.follow(replace(attempt, job=follower, positions=495)) is None and not case.is_solved


def test_texts_count_up_to_the_first_that_some_way_left_unfinished(tiny_llama):
    comparison = Comparison(tiny_llama, {BASE: load_recipe()}, [2.0], table=64, passes=4)
    for place, has_ended in enumerate((True, True, False, True)):
        comparison.cases[str(place)] = Case(BASE, 2.0, place, 10.0, has_ended=has_ended)
    assert comparison.num_finished == 2


def test_a_way_that_always_solves_at_half_the_work_is_said_to_with_its_interval():
    ways = [BASE, "4, halved"]
    cases = [
        Case(way, 8.0, place, 100.0, spent=spent, is_solved=is_solved, has_ended=True)
        for place in range(40)
        for way, spent, is_solved in ((BASE, 100.0, place % 2 == 0), ("4, halved", 50.0, True))
    ]
    base, halved = summary(cases, [8.0], ways, passes=10)
    assert (base["solved"], halved["solved"], halved["work_ratio"], base["mean_passes"]) == (20, 40, 0.5, 10.0)
    low, high = halved["more_solved_interval"]
    assert 0.3 < low < halved["more_solved"] == 0.5 < high < 0.7
    assert base["more_solved_interval"] == [0.0, 0.0] and base["work_ratio_interval"] == [1.0, 1.0]


def test_two_texts_by_two_ways_are_written_to_a_file(tmp_path, capsys):
    out = tmp_path / "populations.json"
    populations.main([
        "--texts", "2", "--lengths", "4", "8", "--tokens-per-vector", "2", "--passes", "40", "--threads", "1",
        "--ways", "4 side by side", "--out", str(out),
    ])  # fmt: skip
    told = json.loads(out.read_text())
    assert [(row["way"], row["texts"]) for row in told["rows"]] == [(BASE, 2), ("4 side by side", 2)]
    assert told["rows"][0]["solved"] == 2 and len(told["cases"]) == 4
    assert "one attempt" in capsys.readouterr().out


def test_what_is_run_on_a_gpu_imports_nothing_that_a_machine_with_torch_alone_lacks():
    lacking = {"ray", "vllm", "pyarrow", "optuna", "pandas"}
    code = f"import bench.populations, bench.beam_certificate, sys; print(sorted({lacking} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_sentences_are_there_one_a_line():
    assert len(sentences()) == len(set(sentences())) == 500 and FILE.stat().st_size < 50_000
