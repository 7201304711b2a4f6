"""A few of the random command lines and damaged runs of `tests/fuzz.py`, always the same ones."""

import pytest
from fuzz import Ended, commands, damage


@pytest.mark.parametrize(("kind", "count"), [(commands, 8), (damage, 12)])
def test_no_command_line_and_no_damage_ends_in_a_traceback(kind, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which `commands` changes
    codes, findings = kind(count, "suite", tmp_path)
    assert not findings
    assert sum(codes.values()) == count
    assert 2 in codes  # else nothing was tried


@pytest.mark.parametrize(
    ("ended", "wrong"),
    [
        (Ended(0, "fine", ""), ""),
        (Ended(2, "", "metarl: no\n"), ""),
        (Ended(2, "", "metarl: no\nand more\n"), "an error that is not one line"),
        (Ended(1, "", "no\n"), "an error that is not one line"),
        (Ended(3, "", "metarl: no\n"), "exit code 3"),
        (Ended(1, "", "Traceback (most recent call last):\n"), "traceback"),
        (Ended(0, "", "warning\n"), "something on stderr without an error"),
    ],
)
def test_what_counts_as_wrong(ended, wrong):
    assert ended.wrong == wrong
