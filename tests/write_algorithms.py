"""`python tests/write_algorithms.py` writes the table of docs/algorithms.csv in results.md."""

import csv
import re
from pathlib import Path
from statistics import mean

DOCS = Path(__file__).parent.parent / "docs"
TABLE = re.compile(r"(?:^\| `[\w-]+` \| `[\w-]+` \| [\d, ]+ \| .*\|\n)+", re.MULTILINE)


def runs():
    """Rows of the file by family and algorithm, in its order."""
    found = {}
    with (DOCS / "algorithms.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault((row["family"], row["algo"]), []).append(row)
    return found


def line(family, algo, seeds):
    """Mean over seeds with the lowest and the highest; mean steps, and the quickest run."""

    def numbers(column):
        return [float(row[column]) for row in seeds if row[column]]

    returns = [
        f"{mean(x):.1f} [{min(x):.1f}, {max(x):.1f}]"
        for x in map(numbers, ("before", "step_1", "step_3"))
    ]
    steps, minutes = numbers("million_env_steps"), numbers("minutes")
    names = ", ".join(row["seed"] for row in seeds)
    least = f"{min(minutes):.1f}" if minutes else ""
    cells = (f"`{family}`", f"`{algo}`", names, *returns, f"{mean(steps):.1f}", least)
    return f"| {' | '.join(cells)} |\n"


def table():
    """All rows."""
    return "".join(line(*key, seeds) for key, seeds in runs().items())


def main():
    """Put the rows where the page has them."""
    page = DOCS / "results.md"
    page.write_text(TABLE.sub(lambda _: table(), page.read_text(), count=1))


if __name__ == "__main__":
    main()
