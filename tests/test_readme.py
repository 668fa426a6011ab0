"""The README's Python example, run as it stands there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_python_example_says_its_text(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    first, *table = capsys.readouterr().out.splitlines()
    assert first.startswith("True (") and first.endswith(", 256)")
    assert "Call me Ishmael." in table[-1]


def test_every_file_the_readme_names_exists():
    text = (ROOT / "README.md").read_text()
    named = re.findall(r"\]\(([^)#:]+)\)", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
