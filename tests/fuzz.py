"""Random command lines, damaged runs and kills; no mistake may end in a traceback.

By hand, `python tests/fuzz.py commands 10000 [seed]`, `damage 1000`, `kills 100` or `outputs`:
prints each finding with what repeats it, and then the figures.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from processes import ENV, begin, finish, until, weights
from processes import SMALL as SMALL_RUN
from small import sign
from zip_damage import VALUES, cut, scribbled

from metarl.cli.arguments import COMMANDS
from metarl.cli.main import main
from metarl.config.published import ALGORITHMS
from metarl.config.validation import OneOf, Within
from metarl.envs import FAMILIES, Choice, Range, parameters

CODES = 0, 1, 2, 130
PATIENCE = 3.0  # s until a command is interrupted, as by Ctrl-C
HANG = 90.0  # s after which a command counts as hung
OWN = [name for name, made in FAMILIES.items() if isinstance(made, type)]  # not Gymnasium's
NUMBERS = (
    *("0", "-0.0", "1", "-1", "2", "3", "0.5", "1e-3", "1e-30", "1e-40", "1e-320", "1e30", "1e38"),
    *("1e39", "1e308", "-1e308", "1e309", "nan", "inf", "-inf", str(2**24 + 1), str(2**31)),
    *(str(2**32), str(2**53 + 1), str(2**63 - 1), str(2**63), str(2**64), str(2**70), "9" * 5000),
    *("0x10", "1_000", "1,5", "true", "None", "", " ", "½", "٣"),
)
WORDS = ("", " ", "-", "--", "..", "/", "\0", "a" * 300, "é", "\udc80", "[red]", "{}", "%s", "a=b",
         "NAME", "*", "auto", "none")  # fmt: skip
# Flags of which large values only take long; they come small unless they are what is tried.
SMALL = {
    "train": "--iterations 1 --tasks 2 --episodes 2 --hidden 4 --eval-steps 1 --quiet --track csv",
    "evaluate": "--tasks 2 --episodes 2 --steps 1",
    "compare": "--tasks 2 --episodes 2 --steps 1",
    "export": "--episodes 2 --steps 1",
    "watch": "--tasks 2 --episodes 2 --steps 1",
    "bench": "--repeats 1 --tasks 1",
}
LEFT_OUT = {"window", "baselines", "processes", "compile", "profile", "families", "threads"}


# Python itself swallows a Ctrl-C that comes within a destructor, and says so with a traceback.
IGNORED = re.compile(r"^Exception ignored in.*\n(Traceback.*\n( .*\n)*)?\S.*\n?", re.M)


class Hung(BaseException):
    """A command that goes on after it was interrupted."""


@dataclasses.dataclass
class Ended:
    """How a command ended."""

    code: object
    out: str
    err: str

    @property
    def wrong(self):
        """What breaks the promise of every command; empty where nothing does."""
        said = IGNORED.sub("", self.err)
        if "Traceback" in said + self.out:
            return "traceback"
        if self.code not in CODES:
            return f"exit code {self.code}"
        said = [x for x in said.splitlines() if x]
        if self.code and not (len(said) == 1 and said[0].startswith("metarl: ")):
            return "an error that is not one line"
        return "something on stderr without an error" if said and not self.code else ""


def ended(words, patience=PATIENCE):
    """Run a command in this process, interrupted after a while."""
    out, err, code = io.StringIO(), io.StringIO(), None
    until_hung = time.monotonic() + HANG

    def ring(number, frame):
        if time.monotonic() > until_hung:
            raise Hung("".join(traceback.format_stack(frame)))
        signal.raise_signal(signal.SIGINT)

    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, patience, 5)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*words])
    except SystemExit as stop:
        code = stop.code or 0
    except Hung as hung:
        err.write(f"hung; Traceback\n{hung}")
    except KeyboardInterrupt:  # before or after `main` listens for signals
        code = 130
        err.write("metarl: stopped")
    except BaseException:
        err.write(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Ended(code, out.getvalue(), err.getvalue())


def values_of(kind, extras, rng):
    """A value for a field: an edge of its range, one of its names, or nonsense."""
    if rng.random() < 0.15:
        return rng.choice((*NUMBERS, *WORDS))
    for extra in extras:
        if isinstance(extra, OneOf):
            return rng.choice(extra.names())
        if isinstance(extra, Within):
            low, high = extra.low, min(extra.high, 2.0**63)
            whole = int in (kind, *get_args(kind))
            edges = (
                low,
                low + 1,
                low - 1,
                low * (1 + 1e-9),
                high,
                high + 1,
                math.nextafter(high, 0),
            )
            return rng.choice((*(str(int(x) if whole else x) for x in edges), rng.choice(NUMBERS)))
    if get_origin(kind) is Literal:
        return rng.choice(get_args(kind))
    return rng.choice((*NUMBERS, *WORDS))


def parameter_words(family, rng):
    """NAME=RANGE or NAME=VALUE for a family's own names, now and then of another."""
    known = parameters(FAMILIES[family]()) if family in FAMILIES else {}
    fields = [f.name for f in dataclasses.fields(FAMILIES[family])] if family in FAMILIES else []
    name = rng.choice([*known, *fields, "horizon", "nothing", ""])
    if rng.random() < 0.6:
        return name, rng.choice((*NUMBERS, "5", "7", "9", "64", "1000", "false"))
    a, b = rng.choice(NUMBERS), rng.choice(NUMBERS)
    defaults = known.get(name)
    if isinstance(defaults, Range) and rng.random() < 0.5:
        a, b = defaults.low, rng.choice((defaults.high, defaults.bounds[1], b))
    if isinstance(defaults, Choice) and rng.random() < 0.5:
        a, b = rng.choice(defaults.values), rng.choice((*defaults.values, b))
    tail = rng.choice(("", "", ":int", ":log", ":x"))
    return name, f"{a}:{b}{tail}" if rng.random() < 0.6 else f"{a},{b}"


def command_line(rng, run, folder):
    """Words of a random command; `run` is a finished run, `folder` one to write into."""
    name = rng.choice(("train",) * 5 + tuple(COMMANDS))
    words = [name, *shlex.split(SMALL.get(name, ""))]
    family = rng.choice(OWN)
    if name == "train":
        words[1:1] = [family if rng.random() < 0.95 else rng.choice(WORDS)]
        words += ["--run", str(folder / f"run-{rng.random()}")]
        words += ["--algo", rng.choice(list(ALGORITHMS))] if rng.random() < 0.5 else []
    elif name in ("evaluate", "compare", "export", "watch"):
        words[1:1] = [str(run)] if rng.random() < 0.95 else [rng.choice(WORDS)]
        words += ["--out", str(folder / "out")] if name in ("export", "watch") else []
        family = "point-navigation"
    elif name == "families":
        words += [rng.choice((*FAMILIES, *WORDS))]
    return words_of_flags(words, family, [folder / "x", run], rng)


def words_of_flags(words, family, paths, rng):
    """A command with some of its flags."""
    kind_of = COMMANDS[words[0]]
    hints = get_type_hints(kind_of, include_extras=True)
    fields = [f.name for f in dataclasses.fields(kind_of) if f.name not in LEFT_OUT]
    for field in rng.sample(fields, min(len(fields), rng.choice((1, 1, 1, 2, 3)))):
        kind, *extras = get_args(hints[field]) or (hints[field],)
        flag = "--" + field.replace("_", "-")
        if field in ("vary", "hold_out", "validation", "extrapolate", "set", "variant"):
            words += [flag, "=".join(parameter_words(family, rng))]
        elif kind is bool:
            words += [rng.choice((flag, "--no-" + flag[2:]))]
        elif Path in (kind, *get_args(kind)):
            words += [flag, str(rng.choice((*paths, *WORDS)))]
        elif get_origin(kind) is tuple and kind is not tuple[str, ...]:
            words += [flag, *(values_of(kind.__args__[0], extras, rng) for _ in range(2))]
        else:
            words += [flag, str(values_of(kind, extras, rng))]
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words) + 1), rng.choice((*WORDS, "--help", "--nothing")))
    return words


def small_run(folder):
    """A finished run."""
    got = ended(["train", "point-navigation", *SMALL["train"].split(), "--run", str(folder)], 300)
    assert got.code == 0, got.err
    return folder


def commands(count, seed, home):
    """Findings, and how many commands ended with each code."""
    run, codes, findings = small_run(home / "run"), Counter(), []
    os.chdir(home)
    for i in range(count):
        rng, folder = random.Random(f"{seed}/{i}"), home / "out"
        folder.mkdir(exist_ok=True)
        words = command_line(rng, run, folder)
        got = ended(words)
        codes[got.code] += 1
        if got.wrong:
            findings.append((f"{seed}/{i}", words, got))
            report(findings[-1])
        shutil.rmtree(folder, ignore_errors=True)
    return codes, findings


def report(finding, wrong=""):
    name, words, got = finding
    shown = shlex.join(w if len(w) < 400 else w[:20] + "..." for w in map(repr, words))
    print(
        f"--- {name}: {wrong or got.wrong}: code {got.code}\n{shown}\n{got.err[-1500:]}", flush=True
    )


def damage(count, seed, home):
    """Damaged runs that are evaluated or resumed: they are refused, or as they were."""
    run, codes, findings = small_run(home / "run"), Counter(), []
    other = home / "other"
    ended(
        ["train", "point-navigation", *SMALL["train"].split(), "--seed", "1", "--run", str(other)]
    )
    looked = ["evaluate", "RUN", *SMALL["evaluate"].split(), "--json", "-"]
    resumed = ["train", "--resume", "RUN", "--iterations", "2", "--quiet"]
    whole = ended([str(run) if w == "RUN" else w for w in looked]).out
    for i in range(count):
        rng, copy = random.Random(f"{seed}/{i}"), home / "copy"
        shutil.copytree(run, copy)
        files = [copy / "config.json", *sorted((copy / "checkpoints").iterdir())]
        name = hurt(rng, rng.choice([f for f in files if not f.is_dir()]), copy, other)
        command = rng.choice((looked, looked, resumed))
        got = ended([str(copy) if w == "RUN" else w for w in command], 60)
        codes[got.code] += 1
        wrong = got.wrong
        if command is looked and got.code == 0 and got.out != whole:
            wrong = "another result from a damaged run"
        if wrong:
            findings.append((f"{seed}/{i} {name}", command, got))
            report(findings[-1], wrong)
        shutil.rmtree(copy)
    return codes, findings


def hurt(rng, path, run, other):
    """Damage a file; what was done."""
    content = path.read_bytes()
    kind = rng.choice(("bit", "bytes", "cut", "key", "swap", "gone", "folder", "empty"))
    if kind == "bit":
        place = rng.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)])
                         + content[place + 1 :])  # fmt: skip
    elif kind == "bytes":
        path.write_bytes(scribbled(rng, content))
    elif kind == "cut":
        path.write_bytes(cut(rng, content))
    elif kind == "key" and path.suffix == ".json":
        record = json.loads(content)
        place = rng.choice([record, *(v for v in record.values() if isinstance(v, dict) and v)])
        name = rng.choice(list(place))
        place.pop(name) if rng.random() < 0.4 else place.update({name: rng.choice(VALUES)})
        path.write_text(json.dumps(record))
        if rng.random() < 0.5:  # with right digests
            with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
                sign(run, json.loads((run / "config.json").read_text()))
        kind += f" {name}"
    elif kind == "swap":
        path.write_bytes((other / path.relative_to(run)).read_bytes())
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir() if kind == "folder" else None
    return f"{kind} of {path.name}"


def kills(count, seed, home):
    """A run that is killed at any time, also while it writes a checkpoint, and resumed."""
    codes, findings, inside = Counter(), [], 0
    words = f"{SMALL_RUN} --track csv --run"
    assert finish(begin(f"{words} {home / 'whole'}"))[0] == 0
    for i in range(count):
        rng, run = random.Random(f"{seed}/{i}"), home / "killed"
        process = begin(f"{words} {run}")
        until(partial(exists_or_ended, run / "config.json", process))
        if rng.random() < 0.5:  # as soon as there is a file that is being written
            end = time.monotonic() + rng.random()
            while time.monotonic() < end and not list(run.glob("checkpoints/*.part*")):
                pass
            inside += bool(list(run.glob("checkpoints/*.part*")))
        else:
            time.sleep(4 * rng.random())
        process.kill()
        codes[finish(process)[0]] += 1
        code, out, err = finish(begin(f"--resume {run} --quiet"))
        same = code == 0 and all(
            torch.equal(w, weights(home / "whole")[k]) for k, w in weights(run).items()
        )
        if not same:
            findings.append((f"{seed}/{i}", [*words.split(), "killed"], Ended(code, out, err)))
            report(findings[-1], "a run that was killed and resumed is another")
        shutil.rmtree(run)
    print(f"{inside} kills while a checkpoint was being written")
    return codes, findings


def exists_or_ended(path, process):
    return path.exists() or process.poll() is not None


def outputs(count, seed, home):
    """Full disks of many sizes, and outputs that are closed, narrow or have few letters."""
    run, codes, findings = small_run(home / "run"), Counter(), []
    command = [sys.executable, "-m", "metarl"]
    ways = [{"PYTHONIOENCODING": e, "COLUMNS": c} for e in ("ascii", "cp1252", "utf-8")
            for c in ("60", "1", "x")]  # fmt: skip
    tries = [([*command, *words], way) for way in ways for words in (
        ["families"], ["families", "cartpole"], ["algos"], ["--help"], ["train", "--help"],
        ["evaluate", str(run), *SMALL["evaluate"].split()])]  # fmt: skip
    for end in (">&-", "2>&-", ">&- 2>&-", "<&-", ">/dev/full"):
        for words in ("families", f"evaluate {run} {SMALL['evaluate']}"):
            tries.append((["sh", "-c", f'exec "$0" -m metarl {words} {end}', sys.executable], {}))
    for i in range(count):
        size = int(random.Random(f"{seed}/{i}").choice((10, 100, 1000, 10_000)) ** 1.2)
        script = f'ulimit -f {size // 512}; exec "$0" -m metarl train point-navigation '
        script += SMALL["train"].replace("--quiet --track csv", f"--run {home}/full-{i}")
        tries.append((["sh", "-c", script, sys.executable], {}))
    for words, way in tries:
        done = subprocess.run(words, env={**ENV, **way}, capture_output=True, check=False)
        got = Ended(done.returncode, done.stdout.decode(errors="replace"),
                    done.stderr.decode(errors="replace"))  # fmt: skip
        codes[got.code] += 1
        if got.wrong:
            findings.append((str(way), words, got))
            report(findings[-1])
    return codes, findings


KINDS = {"commands": commands, "damage": damage, "kills": kills, "outputs": outputs}


def hold_back():
    """Little memory for this process: what asks for more must be refused, not take the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    kind, count, seed = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["0"])[0]
    hold_back()
    with tempfile.TemporaryDirectory() as home:
        began = time.monotonic()
        codes, findings = KINDS[kind](count, seed, Path(home))
        os.chdir("/")
    kinds = Counter(re.sub(r"\d+", "N", got.err.strip()[-80:]) for _, _, got in findings)
    print(f"{kind} {count} seed {seed}: exit codes {dict(codes)}, {len(findings)} findings "
          f"in {time.monotonic() - began:.0f} s")  # fmt: skip
    for said, times in kinds.most_common():
        print(f"{times} x {said}")
    sys.exit(bool(findings))
