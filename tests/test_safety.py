"""The tree itself: nothing in it runs what a file says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("engine", "orchestrator", "tune_spaces") for path in (ROOT / folder).rglob("*.py")]
UNPICKLERS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"}
UNSAFE_FLAGS = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False}


def findings(tree: ast.AST) -> list[str]:
    """What in a file could run what another file says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in modules if UNPICKLERS & set(name.split("."))]
        if isinstance(node, ast.Call):
            found += [name for name in (ast.unparse(node.func),) if name in UNSAFE_CALLS]
            found += [
                f"{flag.arg}={flag.value.value}"
                for flag in node.keywords
                if isinstance(flag.value, ast.Constant) and flag.arg in UNSAFE_FLAGS
                if flag.value.value is UNSAFE_FLAGS[flag.arg]
            ]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_unpickled_or_run(path):
    assert findings(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "import ray.cloudpickle as cp", "torch.load(path)", "eval(text)",
     "yaml.load(file)", "np.load(path, allow_pickle=True)", "AutoModel.from_pretrained(name, trust_remote_code=True)"],
)  # fmt: skip
def test_each_way_to_do_so_would_be_found(source):
    assert findings(ast.parse(source))
    assert not findings(ast.parse("model.eval(); yaml.safe_load(file); torch.save(tensor, file)"))
