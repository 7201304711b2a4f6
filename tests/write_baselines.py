"""`python tests/write_baselines.py [RECORD ...]` writes the tables of docs/baselines.csv.

RECORD: what `metarl evaluate RUN --baselines --json RECORD` wrote, with the seed of the run at the
end of its name, such as `forager-0.json`; its rows replace those of the file.
"""

import csv
import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
COLUMNS = [
    *("family", "seed", "row", "before", "step_1", "step_2", "step_3", "low", "high", "share"),
    *("best", "difference", "difference_low", "difference_high"),
]
RETURNS = ("before", "step_1", "step_2", "step_3")
# The agent after its last step, less the best baseline.
VERDICT = re.compile(
    r"the best plain alternative, (?P<best>[^,]+), reaches .*"
    r": (?P<difference>[+-][\d.]+) \[(?P<low>-?[\d.]+), (?P<high>-?[\d.]+)\]"
)
AGENT = ", meta-trained"


def rows_of(path):
    """Rows of a record: the agent, its baselines, random actions and the oracle."""
    record, seed = json.loads(path.read_text()), path.stem.rpartition("-")[2]
    for row, found in record["baselines"].items():
        means = [f"{x:.2f}" for x in found["return_mean"]]
        low, high = (f"{x:.2f}" for x in found["return_ci95"][-1])
        line = {"family": record["family"], "seed": seed, "row": row, "low": low, "high": high}
        line |= dict(zip(RETURNS, means, strict=False))
        line["share"] = f"{found['share_of_oracle']:.2f}"
        if row.endswith(AGENT) and (said := VERDICT.search(record["verdict"])):
            line["best"], line["difference"] = said["best"], said["difference"]
            line |= {f"difference_{end}": said[end] for end in ("low", "high")}
        yield line
    ends = {"random actions": record["random_mean"], "oracle": record["oracle_mean"]}
    for row, mean in ends.items():
        line = {
            "family": record["family"],
            "seed": seed,
            "row": row,
            "before": f"{round(mean, 2) + 0.0:.2f}",
        }
        yield line | {"share": f"{float(row == 'oracle'):.2f}"}


def read():
    """All rows of the file."""
    with (DOCS / "baselines.csv").open() as file:
        return list(csv.DictReader(file))


def compared(rows):
    """Each seed of the agent, and the baselines of seed 0."""
    out = ""
    for row in rows:
        agent = row["row"].endswith(AGENT)
        if not agent and row["seed"] != "0":
            continue
        returns = [row[name] for name in RETURNS]
        last = max(i for i, x in enumerate(returns) if x)
        if row["low"]:
            returns[last] += f" [{row['low']}, {row['high']}]"
        share = f"{float(row['share']):.0%}"
        cells = (row["family"], row["row"], row["seed"] if agent else "", *returns, share)
        out += f"| {' | '.join(cells)} |\n".replace("|  |", "| |").replace("|  |", "| |")
    return out


def best(rows):
    """What each seed of the agent gets beyond the best baseline."""
    out = ""
    for row in rows:
        if row["best"]:
            ends = f"[{row['difference_low']}, {row['difference_high']}]"
            cells = (row["family"], row["seed"], row["best"], f"{row['difference']} {ends}")
            out += f"| {' | '.join(cells)} |\n"
    return out


def main():
    """Take the records' rows into the file, and put the tables where the page has them."""
    rows = read() if (DOCS / "baselines.csv").exists() else []
    for path in map(Path, sys.argv[1:]):
        new = list(rows_of(path))
        key = new[0]["family"], new[0]["seed"]
        rows = [row for row in rows if (row["family"], row["seed"]) != key] + new
    rows.sort(key=lambda row: (row["family"], not row["row"].endswith(AGENT), row["seed"]))
    with (DOCS / "baselines.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page = DOCS / "results.md"
    page.write_text(with_tables(page.read_text()))


def with_tables(text):
    """The page with the tables of the file, each after its mark and two lines of head."""
    for name, make in (("compared", compared), ("best", best)):
        before, mark, after = text.partition(f"<!-- table: {name} -->\n")
        first, second, rest = after.split("\n", 2)
        rest = re.sub(r"\A(?:\|.*\n)*", "", rest)
        text = f"{before}{mark}{first}\n{second}\n{make(read())}{rest}"
    return text


if __name__ == "__main__":
    main()
