"""Half a line at a file's end."""

import pytest

from orchestrator.storage.torn_line import cut_torn_line


@pytest.mark.parametrize(
    ("content", "left"),
    [(b"", b""), (b"a\n", b"a\n"), (b"a\nb\n", b"a\nb\n"), (b"a\nhal", b"a\n"), (b"hal", b""), (b"\n", b"\n")],
)
def test_what_has_no_end_is_cut_off(tmp_path, content, left):
    path = tmp_path / "lines"
    path.write_bytes(content)
    cut_torn_line(path)
    assert path.read_bytes() == left


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    cut_torn_line(tmp_path / "lines")
    assert list(tmp_path.iterdir()) == []
