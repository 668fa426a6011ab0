"""What the shell offers after Tab is what the command takes, and the first words come at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.frozen_lm import DTYPES
from engine.model_source import ModelSource
from engine.recipe import recipe_names
from orchestrator.console import completion
from orchestrator.corpus.formats import FORMATS
from orchestrator.export.formats import FORMATS as EXPORTS
from orchestrator.fleet.verifier_actor import ENGINES
from orchestrator.results.run_log import LEVELS

ROOT = Path(__file__).parents[3]


def test_the_words_are_those_that_are_taken():
    assert completion.recipes("") == recipe_names()
    assert completion.ENGINES == tuple(ENGINES) and completion.DTYPES == tuple(DTYPES)
    assert completion.LOG_LEVELS == LEVELS
    assert completion.EXPORTS == tuple(EXPORTS)
    assert set(completion.FORMATS) == set(FORMATS)
    assert Path(ModelSource(completion.MODELS[0]).path).is_dir()


def completed(line: str) -> list[str]:
    """What bash would offer behind this line."""
    words = line.split(" ")
    env = os.environ | {
        "_VERBATIM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", "verbatim"]
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout.split()


def test_bash_is_offered_verbs_options_and_their_values():
    assert completed("verbatim rep") == ["report"]
    assert completed("verbatim run --recipe per_") == ["per_sample_cramming"]
    assert completed("verbatim run corpus.txt --engine ") == ["vllm", "hf"]


HEAVY = ("torch", "transformers", "ray", "vllm", "optuna", "pandas", "matplotlib")


def test_the_first_words_wait_for_no_library_that_takes_seconds():
    code = f"import sys, tune_spaces.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("flag", ["--version"])
def test_the_version_is_one_line_with_what_decides_results(verbatim, flag):
    outcome = verbatim(flag)
    assert outcome.code == 0 and outcome.err == ""
    assert outcome.out.startswith("verbatim ") and outcome.out.count("\n") == 1
    assert "torch " in outcome.out and "ray " in outcome.out
