"""docs/extending.md counts the lines that a user writes."""

import re
from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()


def test_a_heading_that_counts_lines_counts_those_of_its_example():
    counted = {}
    for section in PAGE.split("\n## ")[1:]:
        if found := re.match(r"(.+) \((\d+) lines?\)\n", section):
            code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
            counted[found[1]] = (int(found[2]), sum(map(bool, code.splitlines())))
    assert len(counted) == 5
    assert all(said == lines for said, lines in counted.values()), counted
