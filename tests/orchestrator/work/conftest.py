"""A queue of three texts, and what is done with it again and again."""

import pytest

from orchestrator.work.retry import make_retry
from orchestrator.work.work_queue import WorkQueue
from tests.orchestrator.made_up import attempt, job

ALL = 10**6


@pytest.fixture
def queue():
    """Texts a, b and c, two attempts each, pending."""
    queue = WorkQueue(make_retry(context=1024, grows=True))
    for row, id in enumerate("abc"):
        queue.add(row, job(id, attempts=2, growth=1.5))
    return queue


def solve(queue, jobs, worker="w"):
    """Give every job back as a candidate."""
    return [queue.finish(worker, attempt(job)) for job in jobs]


def ids(jobs):
    return [job.target.id for job in jobs]
