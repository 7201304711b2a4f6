"""Damaged models of Stable-Baselines3, of kinds that a disk, a program or a person makes."""

import io
import json
import zipfile

VALUES = (None, True, -1, 2**70, 1e308, "", "words", [], [[]], {}, {"a": 1}, 1000 * "x", [1, "a"])


def zipped(parts):
    """A zip of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, bytes(content))
    return out.getvalue()


def unzipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def scribbled(rng, content, most=20, start=0):
    """With some bytes changed, from `start` on."""
    out = bytearray(content)
    for _ in range(rng.randint(1, most)):
        out[rng.randrange(start, len(out))] = rng.randrange(256)
    return bytes(out)


def cut(rng, content):
    """Without some bytes, or without an end."""
    a = rng.randrange(len(content))
    return content[:a] + rng.choice((b"", content[a + rng.randint(1, 50) :]))


def other_data(rng, parts):
    """A value of its JSON is another, or gone; checksums are right."""
    about = json.loads(parts["data"])
    place = about
    for name in rng.choice((("action_space",), ("observation_space",), ("policy_kwargs",), ())):
        place = place[name]
    names = ["action_space", "observation_space", "policy_kwargs", "use_sde"]
    name = rng.choice(names if place is about else list(place))
    if rng.random() < 0.3:
        place.pop(name, None)
    else:
        place[name] = rng.choice(VALUES)
    return zipped({**parts, "data": json.dumps(about).encode()})


def other_weights(rng, parts):
    """A file in the zip of its weights is scribbled on; checksums are right."""
    inner = unzipped(parts["policy.pth"])
    name = rng.choice([k for k in inner if inner[k]])
    inner[name] = scribbled(rng, inner[name], 4)
    return zipped({**parts, "policy.pth": zipped(inner)})


def damaged(rng, parts):
    """The zip with a damage of one kind."""
    whole = zipped(parts)
    kinds = (
        lambda: scribbled(rng, whole),
        lambda: scribbled(rng, whole, 3, len(whole) - 60 * len(parts)),  # table of contents
        lambda: cut(rng, whole),
        lambda: other_data(rng, parts),
        lambda: other_weights(rng, parts),
        lambda: zipped({**parts, "data": scribbled(rng, parts["data"])}),
    )
    return rng.choice(kinds)()
