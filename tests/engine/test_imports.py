"""The engine stands alone."""

import subprocess
import sys
from pathlib import Path

import engine

ENGINE = Path(engine.__file__).parent
MODULES = [
    ".".join(path.relative_to(ENGINE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ENGINE.rglob("*.py"))
]


def test_no_module_of_the_engine_imports_ray_vllm_or_optuna():
    assert {"engine", "engine.solver", "engine.decoding.greedy", "engine.pocket.train"} <= set(MODULES)
    code = f"import sys, {', '.join(MODULES)}; print(sorted({{'ray', 'vllm', 'optuna', 'torch'}} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['torch']"
