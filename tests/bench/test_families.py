"""The table of families on two rows: one that can be inverted, one that is refused."""

from bench import families, families_report


def test_a_family_is_inverted_and_judged_and_another_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(families, "TEXTS", ("Ada!",))
    (row,) = families.one("mistral, window 8", vllm_too=False)
    assert row["loads"] is True and row["certified"] == row["hf"] == 1
    assert max(row["apart"], row["hf_apart"]) < 1e-3
    assert families_report.line("mistral", row).startswith("| mistral | yes | ")
    (refused,) = families.one("cpmant", vllm_too=False)
    assert "does not read embeddings in place of tokens" in refused["loads"] and "\n" not in refused["loads"]
    assert families_report.line("cpmant", refused).startswith("| cpmant | no: it does not read embeddings")


def test_every_family_of_transformers_has_a_row():
    assert len(families.names()) > 150 and {"llama", "phi3, long-rope", "mamba2"} <= set(families.names())
