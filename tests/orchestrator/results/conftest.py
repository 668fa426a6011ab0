"""Processes that commit, and are killed."""

import multiprocessing

import pytest

from tests.orchestrator import killed


@pytest.fixture(scope="module")
def drive():
    """`drive(target, *args)` runs it in a process of its own and gives its exit code."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([killed.__name__])

    def run(target, *args):
        process = server.Process(target=target, args=args)
        process.start()
        process.join(60)
        return process.exitcode

    return run
