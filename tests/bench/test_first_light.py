"""Every line of the first light on a GPU, on the CPU with small shapes: its figures mean nothing here, its keys do."""

import json

from bench.gpu import first_light


def test_every_section_runs_and_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(first_light.FrozenLM, "compile_layers", lambda lm: None)  # a minute of the C++ compiler
    out = tmp_path / "first_light.json"
    first_light.main(["--small", "--device", "cpu", "--steps", "1", "--out", str(out)])
    told = json.loads(out.read_text())
    sections = {name: value for name, value in told.items() if name not in ("machine", "torch", "transformers")}
    assert not [name for name, value in sections.items() if "failed" in value], capsys.readouterr().out
    for dtype in ("float32", "bfloat16"):
        assert sections[f"pocket, {dtype}"]["certified"] == sections[f"pocket, {dtype}"]["held_on_cpu"] == 2
        assert sections[f"pocket, {dtype}"]["said"] == 2
    as_is, padded = (sections[f"small llama, {how}, mixed, table of 128"] for how in ("as is", "padded"))
    assert as_is["padding"] == 0 and as_is["passes_a_step"] == 1 <= padded["passes_a_step"]
    assert as_is["positions_a_step"] == padded["positions_a_step"] <= 128, "the same table"
    assert 0 < as_is["efficiency"] and 0 < as_is["estimated_bytes"]
    assert sections["small llama, recovery"]["told"] == "fitted" and sections["small llama, head"]["apart"] > 0
    assert {name for name in sections if "compiled" in name}


def test_a_section_that_fails_is_told_and_the_next_one_runs(tmp_path):
    report = first_light.Report(tmp_path / "told.json", first_light.Machine("cpu", "cpu", 0))
    report.measure("one", lambda: 1 / 0)
    report.measure("two", lambda: {"ratio": 1.5})
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["one"]["failed"].startswith("ZeroDivisionError") and told["two"] == {"ratio": 1.5}
