"""Peak memory of a small pass: both kinds are there, with their estimates."""

import json

from bench import peak_memory


def test_a_small_pass_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(peak_memory, "apart", lambda function, *args: function(*args))  # a process takes seconds
    out = tmp_path / "peak.json"
    peak_memory.main(["--positions", "96", "--repeats", "2", "--out", str(out)])
    kept, computed_again = json.loads(out.read_text())
    assert kept["keeps"] and not computed_again["keeps"] and len(kept["turns"]) == 2
    assert all("bytes" in turn and turn["seconds"] > 0 for row in (kept, computed_again) for turn in row["turns"])
    assert computed_again["estimate"] < kept["estimate"] < kept["planned"]
