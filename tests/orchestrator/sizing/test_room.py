"""How long texts may be, what follows from it for memory, and a table that shrinks and grows."""

import json
from dataclasses import replace

import pytest
from transformers import Phi3Config

from engine.capacity import LENGTHS
from engine.footprint import Footprint
from engine.model_source import ModelSource
from engine.recipe import load_recipe
from engine.slots import Job
from engine.target import Target
from orchestrator.cluster.nodes import Node
from orchestrator.console.errors import UserError
from orchestrator.corpus import open_corpus
from orchestrator.corpus.intake import Accepted, Intake, Refused
from orchestrator.process.memory import GIB, Memory
from orchestrator.results.run_record import ModelRecord
from orchestrator.sizing.placement import place
from orchestrator.sizing.room import LOOK_ROWS, Tenancy, need_of_corpus, need_of_stored, room_in
from orchestrator.sizing.sharing import Need
from orchestrator.sizing.table_size import QUIET_STEPS, TELLING_POSITIONS, TableSize
from orchestrator.verifiers.cache import BLOCK
from orchestrator.verifiers.contract import SLACK_TOKENS
from orchestrator.work.retry import make_retry
from tests.large import LLAMA_8B, QWEN3_06B
from tests.orchestrator.made_up import attempt

MACHINE = Memory(64 * GIB, 60 * GIB)
SENTENCES = Need(longest=120, grown=300, typical=60)


def recipe_of(*settings):
    return load_recipe(None, list(settings))


def accepted(num_tokens, recipe, number=0):
    return Accepted(number, Job(Target(f"t{number}", "x", tuple(range(num_tokens)), ends=True), recipe, 1))


def tenancy(footprint=QWEN3_06B, **changes):
    placement = place([Node("a", 8, 0.0, False)])
    return Tenancy(ModelSource("m"), placement, "float32", "float32", **changes), 1, footprint


def room(need=SENTENCES, memory=MACHINE, footprint=QWEN3_06B, **changes):
    told, num_nodes, footprint = tenancy(footprint, **changes)
    return room_in(memory, told, num_nodes, need, footprint)


def test_a_corpus_needs_its_longest_text_with_its_prompt_and_what_is_decoded_past_it():
    recipe = recipe_of("num_vectors=7")
    need = need_of_corpus([accepted(n, recipe) for n in (5, 90, 40)], recipe)
    assert need.longest == need.grown == 90 + 7 + SLACK_TOKENS, "K is fixed, so it does not grow"
    assert 5 + 7 < need.typical < 90 + 7


def test_k_that_grows_is_counted_as_it_is_after_the_last_attempt_that_retry_would_make():
    recipe = recipe_of("attempts=4", "growth=1.5")
    need = need_of_corpus([accepted(40, recipe)], recipe)
    job = Job(Target("t", "x", tuple(range(40)), ends=True), recipe, 40)
    for _ in range(3):
        job = make_retry(10**6, grows=True)(job, attempt(job, is_solved=False), None)
    assert need.grown == 40 + job.num_vectors + SLACK_TOKENS > need.longest == 40 + 40 + SLACK_TOKENS


def test_what_the_engines_are_compared_on_fits_however_short_the_texts_are():
    recipe = recipe_of("num_vectors=30")
    assert need_of_corpus([accepted(2, recipe)], recipe).longest >= max(LENGTHS) + 30


def test_a_corpus_without_end_is_looked_at_in_part():
    recipe = recipe_of("num_vectors=7")
    rows = (accepted(5 + (number >= LOOK_ROWS) * 1000, recipe) for number in range(10**9))
    assert need_of_corpus(rows, recipe).longest < 1000


def test_the_served_length_comes_from_the_texts_and_not_from_the_model():
    served = room().served_length
    assert SENTENCES.grown <= served < QWEN3_06B.context
    assert served % BLOCK == 0 and room().cache.positions >= served
    long = replace(SENTENCES, longest=20_000, grown=20_000)
    assert 20_000 <= room(long).served_length <= QWEN3_06B.context


def test_a_small_context_is_served_whole():
    small = replace(QWEN3_06B, context=64)
    assert room(footprint=small).served_length == 64


def test_a_run_that_goes_on_is_served_as_it_was_and_old_folders_as_far_as_there_is_memory():
    assert room(served_length=512).served_length == 512
    assert room(served_length=QWEN3_06B.context).served_length == room().served_length


def test_stored_prompts_need_what_they_are():
    assert need_of_stored([30, 50, 10]) == Need(50 + SLACK_TOKENS, 50 + SLACK_TOKENS, 30 + SLACK_TOKENS)


@pytest.fixture(scope="module")
def long_rope():
    """A Phi-3 whose factors change beyond 4,096 positions."""
    factors = [1.0] * 16
    config = Phi3Config(
        vocab_size=257, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=131072, original_max_position_embeddings=4096, pad_token_id=None,
        rope_parameters={"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "rope_theta": 1e4,
                         "original_max_position_embeddings": 4096},
    )  # fmt: skip
    return Footprint(config, num_parameters=10**6, context=131072, file_bytes=None, norm_width=2 * 128)


def test_a_model_with_long_rope_is_served_on_the_side_of_its_original_context_where_its_texts_are(long_rope):
    assert long_rope.original_context == 4096 and LLAMA_8B.original_context is None
    assert room(footprint=long_rope).served_length == 4096
    assert room(replace(SENTENCES, longest=4000, grown=9000), footprint=long_rope).served_length == 4096
    assert room(replace(SENTENCES, longest=4097), footprint=long_rope).served_length > 4097
    # Short texts of a run whose others were long.
    assert room(footprint=long_rope, served_length=5000).served_length == 5000


def test_a_run_beyond_the_original_context_does_not_go_on_where_there_is_memory_for_less(long_rope):
    with pytest.raises(UserError, match="was served 9000 positions, beyond the 4096"):
        room(memory=Memory(8 * GIB, 6 * GIB), footprint=deep(long_rope), served_length=9000)
    assert room(footprint=deep(long_rope), served_length=9000).served_length == 9000


def deep(footprint):
    """With a cache of 400 KiB a position."""
    return replace(footprint, config=Phi3Config(**footprint.config.to_dict() | {"num_hidden_layers": 400}))


def test_a_text_that_is_longer_than_what_was_looked_at_ends_with_a_reason_of_its_own(write_jsonl, tmp_path, tokens):
    recipe = recipe_of("num_vectors=7")
    rows = [{"id": "short", "text": "It was late."}, {"id": "long", "text": "It was late. " * 60}]
    corpus = open_corpus(write_jsonl(tmp_path / "corpus.jsonl", rows))
    short, long = Intake(corpus, tokens, recipe, served_length=128).taken()
    assert isinstance(short, Accepted) and isinstance(long, Refused)
    assert str(long.why).startswith("too_long: ") and "the verifier was started for 128" in str(long.why)
    whole = Intake(corpus, tokens, recipe).taken()
    assert all(isinstance(item, Accepted) for item in whole)


def test_a_record_from_before_there_was_a_served_length_was_served_the_context():
    record = {"name": "m", "revision": None, "fingerprint": "f", "hidden_size": 8, "context": 64}
    record |= {"solver_dtype": "float32", "device": "cpu"}
    assert ModelRecord.model_validate_json(json.dumps(record)).was_served == 64
    assert ModelRecord.model_validate_json(json.dumps(record | {"served_length": 32})).was_served == 32


def texts(*positions):
    """Slots of as many texts."""
    return [(f"t{number}", size) for number, size in enumerate(positions)]


def test_a_text_alone_is_given_up_only_when_its_siblings_are_passed_one_by_one():
    table = TableSize(1000, 1000)
    siblings = 4 * texts(100)
    halvings = 0
    while table.halve(siblings):
        halvings += 1
    assert halvings == 2 and table.positions == 100
    assert not table.halve(texts(100))
    assert table.halve(texts(100, 100)), "two texts may yet fit one after the other"


def test_a_table_halves_at_a_shortage_and_grows_back_when_there_has_been_none_for_a_while():
    table = TableSize(1000, 1000)
    assert table.halve(texts(450, 450))
    assert table.positions == 450
    for _ in range(QUIET_STEPS - 1):
        table.step()
    assert table.positions == 450
    table.step()
    assert table.positions == 900
    for _ in range(QUIET_STEPS):
        table.step()
    assert table.positions == 1000


def test_a_table_waits_longer_after_each_shortage():
    table = TableSize(1000, 1000)
    waits = []
    for _ in range(3):
        assert table.halve(texts(600, 400))
        waits.append(0)
        while table.positions < 1000:
            table.step()
            waits[-1] += 1
    assert waits == [QUIET_STEPS, 2 * QUIET_STEPS, 4 * QUIET_STEPS]


def test_a_measured_table_takes_what_its_memory_holds_and_no_more():
    table = TableSize(1024, 1024)
    table.measure(TELLING_POSITIONS - 1, 10, num_bytes=10**9, most_positions=16384)
    assert table.positions == 1024, "too small a pass to tell"
    table.measure(1000, 1000 * 4096, num_bytes=8000 * 4096, most_positions=16384)
    assert table.positions == 7200
    table.measure(1200, 10, num_bytes=8000 * 4096, most_positions=16384)
    assert table.positions == 7200, "no larger pass than the one before"
    table.measure(7200, 7200 * 2048, num_bytes=8000 * 4096, most_positions=16384)
    assert table.positions == 14400
    table.measure(14400, 14400 * 1024, num_bytes=8000 * 4096, most_positions=16384)
    assert table.positions == 16384, "more fill no card better"


def test_a_table_that_was_asked_for_stays_and_what_its_passes_keep_is_measured():
    table = TableSize(1024, 1024, kept=4000, is_fixed=True)
    table.measure(1000, 1000 * 4096, num_bytes=8000 * 4096, most_positions=16384)
    assert (table.positions, table.aim, table.kept) == (1024, 1024, 7200)
    table.measure(1500, 1500 * 4096, num_bytes=1000 * 4096, most_positions=16384)
    assert (table.positions, table.aim, table.kept) == (1024, 1024, 900), "larger passes compute again"


def test_a_measured_table_that_is_short_grows_back_step_by_step():
    table = TableSize(1024, 1024)
    assert table.halve(texts(512, 512))
    table.measure(512, 512 * 4096, num_bytes=8000 * 4096, most_positions=16384)
    assert (table.positions, table.aim) == (512, 7200)


def test_a_text_alone_that_does_not_fit_is_passed_once_more_in_a_way_that_keeps_less():
    table = TableSize(1000, 1000)
    assert not table.halve(texts(700)) and table.keep_less(700) and table.kept == 699
    assert not table.keep_less(700), "it kept little already"
    assert table.keep_less(500) and table.kept == 499


def test_a_pass_that_keeps_little_does_not_say_what_a_table_takes():
    table = TableSize(1024, 1024, kept=4000)
    table.measure(5000, 5000, num_bytes=10**9, most_positions=16384)
    assert (table.positions, table.kept) == (1024, 4000)
    table.measure(1000, 1000 * 4096, num_bytes=20_000 * 4096, most_positions=16384)
    assert (table.positions, table.kept) == (16384, 18000)
