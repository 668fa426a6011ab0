"""A run that is asked to stop, in every way it can be asked: it ends well, says so, and goes on when called again."""

import json
import signal
import urllib.request

import pytest
import yaml

from tests.deploy.conftest import ROOT
from tests.faults.conftest import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

LINE = "interrupted; the same command goes on from here"


def test_a_run_that_is_stopped_in_every_way_goes_on(run, cluster):
    call = begin(run)
    assert "is writing there" in second_call(run)
    stop(run, call, signal.SIGINT, 130)

    stop(run, begin(run), signal.SIGTERM, 143)

    call = begin(run)
    call.send(signal.SIGINT)
    call.wait_for(lambda: run.log("interrupted")[2:])
    call.send(signal.SIGINT)  # at once, or when it is over
    assert call.end() in (-signal.SIGINT, 130)
    run.audit.look()

    stop_job(run, cluster)
    assert run.state == "interrupted" and len(run.log("interrupted")) == 4
    run.audit.look()

    call = run.call()
    assert call.end() == 0, call.output
    assert run.audit.conclude() == {}


def begin(run):
    """A call that has done something since it began."""
    num_solved = len(run.log("solved"))
    call = run.call()
    call.wait_for(lambda: len(run.log("solved")) > num_solved)
    return call


def second_call(run):
    """What a call says while another goes on."""
    second = run.call()
    second.process.join(60)
    assert second.process.exitcode == 2
    return second.output


def stop(run, call, number, code):
    """One signal: exit code, line, state, and everything that ended is committed."""
    call.send(number)
    assert call.end() == code, call.output
    assert call.output.endswith(f"{LINE}\n") and run.state == "interrupted"
    exact = {event["id"] for event in run.log("judged") if event["exact"]}
    run.audit.look()
    assert run.audit.num_committed == len(exact)


def stop_job(run, cluster):
    """The run as a Ray job with the runtime environment that ships, stopped as `ray job stop` does."""
    env = yaml.safe_load((ROOT / "deploy" / "runtime_env.yaml").read_text())["env_vars"]
    job = {"entrypoint": run.command("auto"), "runtime_env": {"env_vars": env}}
    id = ask(cluster, "jobs/", job)["submission_id"]
    num_solved = len(run.log("solved"))
    wait_until(lambda: len(run.log("solved")) > num_solved, lambda: ask(cluster, f"jobs/{id}")["status"] != "FAILED")
    ask(cluster, f"jobs/{id}/stop", {})
    wait_until(lambda: ask(cluster, f"jobs/{id}")["status"] == "STOPPED")


def ask(cluster, path, content=None):
    """The dashboard's answer."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"{cluster.url}/api/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)
