"""Prompts proved on a running server: vLLM's own, and others that answer what nobody asked for."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from engine import pocket
from orchestrator.console.errors import UserError
from orchestrator.verifiers.contract import Candidate
from orchestrator.verifiers.server import Server

CANDIDATE = Candidate("a", np.zeros((2, 3), dtype=np.float32), (5, 6, 0))
MODELS = {"data": [{"id": "pocket"}]}


@pytest.fixture
def answering():
    """A server on a free port: `answering({path: (status, body)})` gives its URL; bodies it got are in `.asked`."""
    servers = []

    def serve(answers):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def _answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                asked.append((self.path, json.loads(self.rfile.read(length) or b"null"), dict(self.headers)))
                status, body = answers.get(self.path, (404, {"error": {"message": "nothing there"}}))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        serve.asked = asked
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def completion(token_ids):
    return (200, {"choices": [{"token_ids": token_ids, "text": "x"}]})


@pytest.mark.parametrize(("said", "exact", "broke"), [([5, 6, 0], True, 3), ([5, 7, 0], False, 1), ([5], False, 1)])
def test_the_verdict_is_on_the_tokens_that_the_server_emitted(answering, said, exact, broke):
    url = answering(
        {"/v1/models": (200, MODELS), "/version": (200, {"version": "9"}), "/v1/completions": completion(said)}
    )
    (verdict,) = Server.find(url, "pocket").judge([CANDIDATE], ends=True)
    assert (verdict.exact, verdict.first_mismatch, verdict.engine) == (exact, broke, f"vllm 9 at {url}")
    _, body, _ = answering.asked[-1]
    assert body["stop_token_ids"] == [0] and body["temperature"] == 0 and body["return_token_ids"] is True


def test_a_prompt_that_the_server_refuses_is_refused_alone(answering):
    refusal = (400, {"error": {"message": "hidden size 3 is not 256"}})
    url = answering({"/v1/models": (200, MODELS), "/v1/completions": refusal})
    (verdict,) = Server.find(url, "pocket").judge([CANDIDATE], ends=True)
    assert not verdict.exact and verdict.refusal == "the server refuses it (400: hidden size 3 is not 256)"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"/v1/models": (200, {"data": [{"id": "a"}, {"id": "b"}]})}, "has a, b, and not pocket"),
        ({"/v1/models": (200, b"<html>")}, "no answer"),
        ({"/v1/models": (200, MODELS), "/v1/completions": (200, {"choices": [{"text": "x"}]})}, "which tokens"),
        (
            {
                "/v1/models": (200, MODELS),
                "/v1/completions": (400, {"error": {"message": "set --enable-prompt-embeds"}}),
            },
            "start it with --enable-prompt-embeds",
        ),
        ({"/v1/models": (200, MODELS)}, "404"),
    ],
)
def test_a_server_that_can_judge_nothing_is_told_in_one_line(answering, answers, told):
    url = answering(answers)
    with pytest.raises(UserError, match="^--server") as raised:
        Server.find(url, "pocket").judge([CANDIDATE], ends=True)
    assert told in str(raised.value)


@pytest.mark.parametrize("url", ["ftp://localhost", "http://", "localhost:1"])
def test_where_no_server_is(url):
    with pytest.raises(UserError, match=r"^--server .*(is no URL of a server|no answer)"):
        Server.find(url, "pocket")


def test_a_key_is_sent_where_one_is_set(answering, monkeypatch):
    monkeypatch.setenv("VERBATIM_SERVER_KEY", "k")
    Server.find(answering({"/v1/models": (200, MODELS)}), "pocket")
    assert answering.asked[0][2]["Authorization"] == "Bearer k"


def test_flags_that_a_server_would_ignore(verbatim, tmp_path):
    outcome = verbatim("verify", tmp_path, "--server", "http://localhost:1", "--beams", 4)
    assert outcome.code == 2 and outcome.err.startswith("error: --beams: the server decodes greedily as it was started")


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory):
    """vLLM's own server with the embedded model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(pocket.PATH), "--port", str(port),
        "--host", "127.0.0.1", "--served-model-name", "pocket", "--enable-prompt-embeds", "--dtype", "float32",
        "--generation-config", "vllm", "--max-model-len", "128", "--enforce-eager",
    ]  # fmt: skip
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    log = folder / "log"
    with log.open("w") as file, subprocess.Popen(command, env=os.environ | env, stdout=file, stderr=file) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(url, process, log)
            yield url
        finally:
            process.terminate()


def _wait_for(url, process, log):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(240):
        try:
            opener.open(f"{url}/v1/models", timeout=5).close()
            return
        except OSError:
            if process.poll() is not None:
                pytest.skip(f"vLLM's server does not start here: {log.read_text()[-300:]}")
            time.sleep(1)
    pytest.skip("vLLM's server does not start within four minutes here")


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllms_server_says_a_runs_texts_and_a_prompt_of_noise_is_not_exact(
    vllm_server, sayings, with_noise, verbatim, alter_row
):
    outcome = verbatim("verify", sayings, "--server", vllm_server)
    assert outcome.code == 0 and "3 of 3 stored prompts exact on vllm " in outcome.out, outcome
    alter_row(with_noise, "door", exact=True)
    outcome = verbatim("verify", with_noise, "--server", vllm_server, "--json")
    verdicts = {verdict["id"]: verdict for verdict in json.loads(outcome.out)}
    assert outcome.code == 3 and not verdicts["door"]["exact"] and verdicts["sea"]["exact"]
