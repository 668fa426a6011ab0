"""What a rung of the ladder says of a prompt."""

from dataclasses import replace

from orchestrator.proof.ladder import withstood
from orchestrator.verifiers.contract import Mode
from tests.orchestrator.made_up import verdict

READ = Mode(decoded=False, scored=True)


def test_a_prompt_that_is_read_is_judged_by_its_margins():
    unread = replace(verdict("a"), generated_ids=())
    assert withstood(replace(unread, target_margins=(0.5, 0.1)), READ) is True
    assert withstood(replace(unread, target_margins=(0.5, -0.1)), READ) is False


def test_a_prompt_that_could_not_be_read_has_not_failed():
    assert withstood(replace(verdict("a"), generated_ids=(), target_margins=None), READ) is None
    assert withstood(verdict("a"), READ) is True, "an engine that cannot score decodes in its place"
    assert withstood(verdict("a", exact=False), READ) is False
    assert withstood(verdict("a", exact=False, refusal="too long"), READ) is False
