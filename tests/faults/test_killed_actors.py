"""Actors that die at the worst moment, and a text that takes every solver down."""

import pytest

from orchestrator.results.ledger import Ledger
from orchestrator.work.work_queue import MAX_LOST_WORKERS
from tests.faults.conftest import TEXTS

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

POISON = "text-30"


def test_what_actors_take_down_with_them_is_done_again_and_poison_is_set_aside(run, orders):
    orders.give("solver.takes", POISON)
    orders.give("verifier.before_answer", 2)
    call = run.call("--verifiers", "2")
    assert call.end() == 3, call.output
    assert orders.open == {"solver.takes"}

    deaths = [event["worker"] for event in run.log("actor_died")]
    assert deaths.count("solver-0") == MAX_LOST_WORKERS
    assert sum(worker.startswith("verifier-") for worker in deaths) == 1
    assert run.audit.conclude() == {}
    status = {row["id"]: row["status"] for row in Ledger(run.folder).read()}
    assert status == dict.fromkeys(TEXTS, "verified") | {POISON: "poisoned"}
