"""`verbatim export`: what comes out is what was stored, bit for bit, and other programs say the texts from it."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.frozen_lm import DTYPES
from orchestrator.export import folder as exporting
from orchestrator.results.ledger import Ledger
from orchestrator.results.stored_prompt import stored_candidate
from tests.orchestrator.conftest import SAYINGS
from tests.planted import PLANTED, plant

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = ["README.md", "index.jsonl", "prompts.safetensors", "vllm_requests.jsonl"]
SAID = [SAYINGS[id] for id in ("door", "sea", "odd")]


@pytest.fixture
def exported(sayings, tmp_path, verbatim, contents):
    """`exported("--dtype", ...)`: export the shared run, which must stay as it is; the new folder."""

    def run(*args, folder=sayings):
        before, out = contents(folder), tmp_path / "exports" / "new"
        outcome = verbatim("export", folder, "--out", out, *args)
        assert outcome.code == 0 and contents(folder) == before, outcome
        assert [path.name for path in out.parent.iterdir()] == ["new"]
        assert sorted(path.name for path in out.iterdir()) == FILES
        return out

    return run


@pytest.fixture
def of_a_planted_model(exported, tmp_path):
    """An export of a model whose own files ask for anything but plain greedy decoding, and that model's folder."""
    out, model = exported(), plant(tmp_path / "planted")
    about, prompts = prompts_of(out)
    save_file(prompts, out / "prompts.safetensors", about | {"model": str(model)})
    return out, model


@pytest.fixture
def refused(sayings, tmp_path, verbatim):
    """`export` must refuse this and write nothing: its one line, `error: ` taken off."""

    def run(*args, folder=sayings, out=tmp_path / "new"):
        before = sorted([*tmp_path.rglob("*"), *folder.rglob("*")])
        outcome = verbatim("export", folder, "--out", out, *args)
        (line,) = outcome.err.splitlines()
        assert (outcome.code, outcome.out, line[:7]) == (2, "", "error: ")
        assert sorted([*tmp_path.rglob("*"), *folder.rglob("*")]) == before
        return line[7:]

    return run


def index_of(out):
    return [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]


def requests_of(out):
    return [json.loads(line) for line in (out / "vllm_requests.jsonl").read_text().splitlines()]


def prompts_of(out):
    with safe_open(out / "prompts.safetensors", "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}


def test_prompts_come_back_bit_for_bit_with_what_they_say(exported, sayings):
    out = exported()
    (_, prompts), index = prompts_of(out), index_of(out)
    assert [entry["id"] for entry in index] == ["door", "sea", "odd"]
    assert [entry["tensor"] for entry in index] == sorted(prompts) == [f"prompt-0000{n}" for n in range(3)]
    for entry in index:
        stored = Ledger(sayings).read_id(entry["id"])
        prompt_KD = prompts[entry["tensor"]].numpy()
        assert prompt_KD.dtype == np.float32 and prompt_KD.tobytes() == stored_candidate(stored).prompt_KD.tobytes()
        for key in ("text", "token_ids", "num_vectors", "min_margin", "exact", "engine", "engine_dtype"):
            assert entry[key] == stored[key]
        assert entry["exact"] and entry["max_tokens"] == len(stored["token_ids"])


def test_many_prompts_are_exported_in_shards_that_hold_the_same(exported, sayings, verbatim, tmp_path, monkeypatch):
    _, whole = prompts_of(exported())
    monkeypatch.setattr("orchestrator.export.chosen.SHARD_BYTES", 1)
    out = tmp_path / "shards"
    assert verbatim("export", sayings, "--out", out, "--format", "projector", "--format", "vllm",
                    "--format", "safetensors").code == 0  # fmt: skip
    index, found = index_of(out), {}
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "index.jsonl", "projector", *(f"prompts-0000{n}-of-00003.safetensors" for n in (1, 2, 3)),
        *(f"vllm_requests-0000{n}-of-00003.jsonl" for n in (1, 2, 3)),
    ]  # fmt: skip
    for entry in index:
        with safe_open(out / entry["file"], "pt") as file:
            assert list(file.keys()) == [entry["tensor"]] and file.metadata()["model"] == "pocket"
            found[entry["tensor"]] = file.get_tensor(entry["tensor"])
    assert {entry["id"] for entry in index} == {"door", "sea", "odd"}
    assert found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in whole)
    num_vectors = sum(len(prompt_KD) for prompt_KD in whole.values())
    assert len((out / "projector" / "vectors.tsv").read_text().splitlines()) == num_vectors
    assert len((out / "projector" / "metadata.tsv").read_text().splitlines()) == num_vectors + 1
    about = (out / "README.md").read_text()
    assert "`prompts-00001-of-00003.safetensors` and so on: one" in about
    assert "head -n 1 vllm_requests-00001-of-00003.jsonl" in about


def test_the_file_of_prompts_says_which_model_they_are_for(exported, sayings):
    about, _ = prompts_of(exported())
    model = json.loads((sayings / "run.json").read_text())["model"]
    assert about == {
        "format": "verbatim prompts", "format_version": "1", "model": "pocket", "revision": "", "dtype": "float32",
        "fingerprint": model["fingerprint"], "hidden_size": "256",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_numerics_round_once_and_requests_hold_the_same_prompts(exported, sayings, dtype):
    out = exported("--dtype", dtype)
    (about, prompts), index = prompts_of(out), index_of(out)
    assert about["dtype"] == dtype
    for entry in index:
        stored_KD = torch.from_numpy(stored_candidate(Ledger(sayings).read_id(entry["id"])).prompt_KD)
        assert torch.equal(prompts[entry["tensor"]], stored_KD.to(DTYPES[dtype]))


def test_chosen_texts_alone_are_exported_each_once_in_the_corpus_order(exported):
    assert [entry["id"] for entry in index_of(exported("--id", "odd", "--id", "door", "--id", "odd"))] == [
        "door",
        "odd",
    ]


def test_prompts_that_are_not_exact_are_exported_when_asked_for_alone(exported, with_noise, verbatim, tmp_path):
    outcome = verbatim("export", with_noise, "--out", tmp_path / "exact")
    assert outcome.out.startswith("2 prompts in float32 exported to ") and "(2 rows that are not exact" in outcome.out
    index = index_of(exported("--all", folder=with_noise))
    assert [(entry["id"], entry["exact"]) for entry in index] == [("door", False), ("sea", True), ("odd", True)]


def test_an_empty_folder_is_filled(sayings, tmp_path, verbatim):
    (tmp_path / "empty").mkdir()
    assert verbatim("export", sayings, "--out", tmp_path / "empty").code == 0
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == FILES


def test_what_is_not_there_cannot_be_exported(refused, sayings, with_noise, tmp_path):
    assert refused("--id", "nobody") == f"--id nobody: {sayings} has no such row"
    assert refused("--id", "nothing") == "--id nothing: this row is invalid (empty), not exact"
    line = refused("--id", "door", folder=with_noise)
    assert line == "--id door: this row is rejected (made up), not exact; add --all to export its prompt"
    assert "--id nothing: this row is invalid (empty), not exact" in refused("--all", "--id", "nothing")
    assert "no run.json there" in refused(folder=tmp_path)


def test_a_run_without_any_exact_row_has_nothing_to_export(refused, with_noise, alter_row):
    for id in ("sea", "odd"):
        alter_row(with_noise, id, exact=False)
    line = refused(folder=with_noise)
    assert line == f"{with_noise}: nothing to export, no row is exact; --all takes every row with a prompt"
    for id in SAYINGS:
        alter_row(with_noise, id, prompt=None, num_vectors=None, hidden_size=None)
    assert refused("--all", folder=with_noise) == f"{with_noise}: nothing to export, no row holds a prompt"


def test_a_folder_that_is_taken(refused, sayings, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    taken = tmp_path / "mine"
    assert refused(out=taken) == f"--out {taken}: not empty; choose another or empty it"
    assert refused(out=taken / "notes.txt") == f"--out {taken / 'notes.txt'}: is a file; choose a folder"
    deep = taken / "notes.txt" / "deep"
    assert refused(out=deep) == f"--out {deep}: {taken / 'notes.txt'} is a file; choose a folder"
    assert refused(out=sayings / "export").endswith("lies in the run's folder; choose another")


def test_unusable_numerics_and_prompts(refused, with_noise, alter_row):
    assert "--dtype int8: must be one of float32" in refused("--dtype", "int8")
    alter_row(with_noise, "sea", prompt=[1e6] * 512)
    line = refused("--dtype", "float16", folder=with_noise)
    assert line == "--dtype float16: the prompt of sea has values beyond its range; take bfloat16"
    alter_row(with_noise, "sea", prompt=[0.5] * 7)
    assert refused(folder=with_noise).startswith("--id sea: prompt shape (7,)")


def test_a_failure_on_the_way_leaves_no_half_export(refused, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "add_lines", full)
    assert refused().endswith("new: cannot be written (No space left on device)")


def run_example(name, out, **env):
    """What an example prints for a folder."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), str(out)], capture_output=True, env=os.environ | env, timeout=280
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


def test_transformers_says_the_texts_whatever_the_models_files_say_of_decoding(of_a_planted_model):
    assert run_example("say_with_transformers.py", of_a_planted_model[0]) == "".join(f"{text}\n" for text in SAID)


@pytest.mark.parametrize("of", ["the embedded model", "a planted model"])
def test_the_exported_readme_says_the_texts(of, of_a_planted_model, monkeypatch, capsys):
    out, model = of_a_planted_model
    (example,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), flags=re.DOTALL)
    if of == "a planted model":
        example = example.replace("ModelSource().path", repr(str(model)))
    monkeypatch.chdir(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "".join(f"{text}\n" for text in SAID)


@pytest.mark.vllm
def test_vllm_says_the_texts_whatever_the_models_files_say_of_decoding(of_a_planted_model):
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    quiet = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    said = run_example("say_with_vllm.py", of_a_planted_model[0], **env, **quiet)
    assert said == "".join(f"{text}\n" for text in SAID)


@pytest.mark.vllm
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vllms_server_reads_the_requests_and_gets_the_prompts_bit_for_bit(exported, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's deprecations, met inside vLLM while it is imported
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest
        from vllm.renderers.embed_utils import safe_load_prompt_embeds
    out = exported("--dtype", dtype)
    model = SimpleNamespace(enable_prompt_embeds=True, dtype=DTYPES[dtype], get_hidden_size=lambda: 256)
    (_, prompts), index = prompts_of(out), index_of(out)
    for body, entry in zip(requests_of(out), index, strict=True):
        request = CompletionRequest.model_validate(body)
        assert (request.model, request.temperature, request.max_tokens) == ("pocket", 0, entry["max_tokens"])
        assert (request.ignore_eos, request.stop_token_ids) == (True, entry["token_ids"][-1:])
        defaults = {key: PLANTED[key] for key in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")}
        asked = request.to_sampling_params(9, defaults | {"presence_penalty": 1.0, "frequency_penalty": 1.0})
        assert (asked.temperature, asked.top_p, asked.min_p, asked.repetition_penalty) == (0, 1, 0, 1)
        assert (asked.presence_penalty, asked.frequency_penalty) == (0, 0)
        read_KD = safe_load_prompt_embeds(model, request.prompt_embeds)
        assert read_KD.dtype == DTYPES[dtype] and torch.equal(read_KD, prompts[entry["tensor"]])


def test_a_format_that_does_not_exist(refused):
    assert refused("--format", "gguf") == "--format gguf: must be one of safetensors, vllm, peft, projector"
