"""The share of the matrix rate on a small table: packed and padded rows are both there, and told apart."""

import json

from bench import efficiency


def test_a_small_table_packed_and_padded(tmp_path):
    out = tmp_path / "efficiency.json"
    efficiency.main(["--tables", "256", "--steps", "1", "--threads", "1", "--size", "256", "--out", str(out)])
    padded, packed = json.loads(out.read_text())
    assert (padded["how"], packed["how"]) == ("padded", "packed")
    assert packed["passes_a_step"] == 1 < padded["passes_a_step"] and packed["padding"] == 0
    assert 0 < packed["share"] and len(packed["rates"]) == 2
