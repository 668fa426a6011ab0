"""What people copy runs as it stands: the Python blocks of the docs, and the notebook's cells."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
NEEDED = re.compile(r"^import (\w+)$", flags=re.MULTILINE)


@pytest.mark.vllm
@pytest.mark.slow
def test_the_page_on_python_runs_from_top_to_bottom(capsys):
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```python\n") > 5
    names: dict = {}
    for block in blocks:
        if all(find_spec(name) for name in NEEDED.findall(block)):
            exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert "Results(2 of 2 exact)" in said
    assert "Proof(2 of 2 exact on vllm " in said
    assert "recipe key optim.learning_rate: unknown; the nearest valid key is optim.lr" in said


def test_only_what_is_not_installed_is_left_out_of_the_page():
    page = (ROOT / "docs" / "python.md").read_text()
    needed = {name for block in BLOCK.findall(page) for name in NEEDED.findall(block)}
    assert {name for name in needed if not find_spec(name)} <= {"duckdb"}


def test_the_notebook_runs_from_top_to_bottom(capsys):
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert notebook["nbformat"] == 4 and len(cells) > 5
    names: dict = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), "first_steps.ipynb", "exec"), names)
    assert names["results"].num_exact == 3
    assert "8 verified" in capsys.readouterr().out
