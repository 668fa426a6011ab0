"""A running OpenAI-compatible server as the one who decodes: vLLM's /v1/completions with prompt embeddings.

Owns: what is asked of it, what its answers mean. Must not know: folders, who starts servers.

Every prompt is asked for in a request of its own; a server batches as it likes.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import torch

from orchestrator.console.errors import UserError
from orchestrator.verifiers.completion_request import completion_request
from orchestrator.verifiers.contract import Candidate, Said, Verdict, refused, verdict

TIMEOUT_S = 600.0
"""For one answer; a server's first may compile."""

AT_ONCE = 16
"""Requests under way."""

KEY = "VERBATIM_SERVER_KEY"
"""Environment variable whose value is sent as the bearer token, where there is one."""

NUMERICS = "numerics of the server"

MOST = 200
"""Characters of a server's complaint that are told."""


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        url: without a path.
        model: as it calls it.
        engine: its name and version.
    """

    url: str
    model: str
    engine: str

    @classmethod
    def find(cls, url: str, model: str) -> "Server":
        """The server at a URL: its model of that name, or the only one it has.

        Raises:
            UserError: nobody answers there, or what answers has no such model.
        """
        url = _base(url)
        served = [each["id"] for each in _ask(f"{url}/v1/models").get("data", [])]
        if model not in served and len(served) != 1:
            raise UserError(f"--server {url}: has {', '.join(served) or 'no model'}, and not {model}; give its server")
        try:
            engine = f"vllm {_ask(f'{url}/version')['version']}"
        except (UserError, KeyError):
            engine = "a server"
        return cls(url, model if model in served else served[0], f"{engine} at {url}")

    def judge(
        self, candidates: list[Candidate], *, ends: bool, on_progress: Callable[[int], None] = lambda _: None
    ) -> list[Verdict]:
        """One verdict a candidate, in order.

        Args:
            ends: whether targets end in the end-of-text token.
            on_progress: told how many are judged.
        Raises:
            UserError: the server is gone, or takes no prompt embeddings.
        """
        verdicts = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers: Iterator[Verdict] = pool.map(lambda candidate: self._judge(candidate, ends), candidates)
            for answer in answers:
                verdicts.append(answer)
                on_progress(len(verdicts))
        return verdicts

    def _judge(self, candidate: Candidate, ends: bool) -> Verdict:
        prompt_KD = torch.from_numpy(candidate.prompt_KD.copy())
        body = completion_request(self.model, prompt_KD, candidate.token_ids, ends=ends) | {"return_token_ids": True}
        try:
            (choice,) = _ask(f"{self.url}/v1/completions", body)["choices"]
            said = _token_ids(choice, self.url)
        except _Complaint as complaint:
            if complaint.is_about_the_server:
                raise UserError(f"--server {self.url}: {complaint}; start it with --enable-prompt-embeds") from None
            return refused(candidate, str(complaint), engine=self.engine, engine_dtype=NUMERICS)
        return verdict(candidate, Said(said), ends=ends, engine=self.engine, engine_dtype=NUMERICS)


class _Complaint(UserError):
    """The server answers, and refuses.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str):
        super().__init__(f"the server refuses it ({status}: {message})")
        self.status, self.message = status, message

    @property
    def is_about_the_server(self) -> bool:
        """Whether no prompt would be taken."""
        return self.status in (401, 403, 404) or "enable-prompt-embeds" in self.message


def _base(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--server {url}: is no URL of a server; give one like http://localhost:8000")
    return f"{parts.scheme}://{parts.netloc}"


def _token_ids(choice: dict[str, Any], url: str) -> list[int]:
    said = choice.get("token_ids")
    if said is None:
        raise UserError(f"--server {url}: does not say which tokens it emitted; vLLM does from version 0.10.2 on")
    return [int(token) for token in said]


def _ask(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The server's answer.

    Raises:
        _Complaint: it refuses.
        UserError: nobody answers, or not in JSON.
    """
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, data=None if body is None else json.dumps(body).encode(), headers=headers)
    is_near = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    opener = build_opener(ProxyHandler({})) if is_near else build_opener()
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return dict(json.loads(answer.read()))
    except HTTPError as error:
        raise _Complaint(error.code, _message(error)) from error
    except (URLError, HTTPException, OSError, ValueError, TypeError) as error:
        cause = getattr(error, "reason", None) or error
        raise UserError(f"--server {_base(url)}: no answer ({cause}); is it running there?") from error


def _message(error: HTTPError) -> str:
    content = error.read().decode("utf-8", errors="replace")
    try:
        told = json.loads(content)
        return str(told.get("error", told).get("message", content))[:MOST]
    except (ValueError, AttributeError):
        return content[:MOST]
