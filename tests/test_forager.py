"""Forager against its definition, and the anchors in its docstring."""

from collections import Counter
from functools import partial
from itertools import permutations, product

import pytest
import torch
from reference import MOVES, WIRINGS, ForagerByDefinition, draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import SPLITS, make_task, task_values
from metarl.envs.games.forager import Forager

FAMILY = Forager()
GAME = {"berry": 1.0, "mushroom": 0.0, "pebble": -1.0, "keys": 0.0}
MEANINGS = list(permutations((-1.0, 0.0, 1.0)))


def start(task, episodes=2, family=FAMILY):
    gen = torch.Generator().manual_seed(0)
    noise = torch.rand(len(task[0]), episodes, family.reset_noise, generator=gen)
    return family.reset(task, noise)


def reference(state, task, n, b, size=6):
    worth = [x[n].item() for x in task[:3]]
    return ForagerByDefinition(state.cells[n, b].tolist(), worth, int(task.keys[n]), size)


@pytest.mark.parametrize("family", [FAMILY, Forager(size=5, view=3, count=2), Forager(size=8)])
def test_every_step_is_that_of_the_definition(family):
    """In a world that stands still while the agent walks; ours turns about the agent."""
    task, gen = draw(family, 12), torch.Generator().manual_seed(0)
    state, acts = start(task, family=family), random_acts(family, (40, 12, 2))
    assert state.cells.shape == (12, 2, family.size**2)
    games = [[reference(state, task, n, b, family.size) for b in range(2)] for n in range(12)]
    for act in acts:
        noise = torch.rand(12, 2, 1, generator=gen, dtype=torch.float64)
        state, rew, terminated = family.step(state, act, task, noise)
        seen = family.observe(state)
        assert not terminated.any()
        for n, b in [(n, b) for n in range(12) for b in range(2)]:
            game = games[n][b]
            assert rew[n, b].item() == game.step(int(act[n, b]), noise[n, b].item())
            assert state.cells[n, b].tolist() == game.cells()
            assert state.pos[n, b].tolist() == [game.row, game.column]
            assert_close(seen[n, b], torch.tensor(game.planes(family.view)))


def test_items_are_conserved_and_never_under_the_agent():
    task, least = draw(FAMILY, 24), torch.tensor(0.0)
    state = start(task, 8)
    most = torch.tensor(1.0).nextafter(least)
    for t, act in enumerate(random_acts(FAMILY, (60, 24, 8))):
        for kind in (1, 2, 3):
            assert (state.cells.eq(kind).sum(-1) == FAMILY.count).all()
        assert (state.cells[..., 21] == 0).all()  # row 3, column 3
        noise = (least, most)[t % 2].expand(24, 8, 1)
        state, _, _ = FAMILY.step(state, act, task, noise)


def test_episodes_start_anywhere_alike():
    """Each kind of item is on each cell but the agent's equally often, and in the middle never."""
    state = start(make_task(FAMILY), 7000)
    assert (state.pos == 3).all()
    often = torch.stack([state.cells.eq(kind).sum((0, 1)) for kind in (1, 2, 3)])
    assert (often[:, 21] == 0).all()
    elsewhere = torch.cat((often[:, :21], often[:, 22:]), dim=1)
    assert (elsewhere - 1000).abs().max() < 5 * 30  # mean 7000 x 5 / 35, spread 29


def test_what_is_eaten_grows_again_on_each_empty_cell_equally_often():
    task = make_task(FAMILY, **GAME)
    state = start(task, 1)
    cells = state.cells.clone()
    cells[..., 21 - 6] = 2  # a mushroom above
    state = state._replace(cells=cells)
    empty = 35 - int((cells > 0).sum()) + 1  # without the agent's; the mushroom leaves its own
    many = type(state)(*(x.expand(1, empty, -1) for x in state))
    noise = ((torch.arange(empty) + 0.5) / empty).view(1, empty, 1)
    nxt, _, _ = FAMILY.step(many, torch.zeros(1, empty, dtype=torch.long), task, noise)
    kept = cells[0, 0].view(6, 6).roll(1, 0).flatten()
    kept[21] = 0
    grown = nxt.cells[0] - kept
    assert (grown.sum(-1) == 2).all()
    assert len(set(grown.argmax(-1).tolist())) == empty


def test_each_wiring_sends_the_four_keys_to_the_four_moves():
    task = FAMILY.task_type(*(torch.zeros(24, 1),) * 3, torch.arange(24.0).view(24, 1))
    act = torch.arange(4).expand(24, 4)
    state = start(task, 4)
    nxt, _, _ = FAMILY.step(state, act, task, torch.zeros(24, 4, 1))
    wirings = {tuple(map(tuple, row)) for row in (nxt.pos - state.pos).tolist()}
    assert len(wirings) == 24
    assert all(sorted(wiring) == sorted(MOVES.values()) for wiring in wirings)


def rows(split):
    """(worth of each kind, action permutation) of every member."""
    return [
        ((t.pop("berry"), t.pop("mushroom"), t.pop("pebble")), int(t["keys"]))
        for t in task_values(FAMILY.members(split))
    ]


def test_the_144_variants_are_split_and_balanced():
    sizes = {"train": 72, "validation": 24, "test": 48}
    assert len({row for split in sizes for row in rows(split)}) == 144
    for split, size in sizes.items():
        assert Counter(m for m, _ in rows(split)) == dict.fromkeys(MEANINGS, size // 6)
        moves = Counter((key, WIRINGS[k][key]) for _, k in rows(split) for key in range(4))
        assert moves == dict.fromkeys(product(range(4), MOVES), size // 4)
    assert {k for _, k in rows("train")} == {k for _, k in rows("test")} == set(range(24))


def test_extrapolation_has_other_meanings_with_one_or_two_kinds_of_food():
    meanings = Counter(m for m, _ in rows("extrapolate"))
    assert not set(meanings) & set(MEANINGS)
    assert {m.count(1.0) for m in meanings} == {1, 2}
    assert (len(meanings), set(meanings.values())) == (6, {24})


@pytest.mark.parametrize("keys", range(24))
@pytest.mark.parametrize("split", SPLITS)
def test_every_split_cancels_for_every_action_permutation(split, keys):
    """Each meaning comes with its opposite, so each item is worth 0 over the members."""
    meanings = Counter(m for m, k in rows(split) if k == keys)
    assert meanings == Counter({tuple(-x for x in m): n for m, n in meanings.items()})
    assert [sum(m[i] * n for m, n in meanings.items()) for i in range(3)] == [0, 0, 0]


def linear(weights, noisy, obs):
    return (obs.flatten(2) @ weights + 9 * noisy).argmax(-1)


def greedy(kind, obs):
    """To the kind of item in sight, as if the keys were those of the first permutation."""
    near = obs[..., kind, 1:4, 1:4]
    return torch.stack((near[..., 0, 1], near[..., 2, 1], near[..., 1, 0], near[..., 1, 2])).argmax(
        0
    )


@pytest.mark.parametrize("split", SPLITS)
def test_without_memory_no_policy_gets_more_than_nothing(split):
    """For each action permutation the members' returns sum to 0 exactly, whatever policy plays."""
    gen, task = torch.Generator().manual_seed(0), FAMILY.members(split)
    n = len(task[0])

    def same(*shape):  # noise that all members share
        return torch.rand(1, *shape, generator=gen).expand(n, *shape)

    weights = torch.randn(75, 4, generator=gen)  # any function of what is seen would do
    policies = [
        lambda obs: linear(weights, same(4, 4), obs),
        *(partial(greedy, k) for k in range(3)),
    ]
    for policy in policies:
        state, total = FAMILY.reset(task, same(4, 36)), torch.zeros(n, 4)
        for _ in range(FAMILY.horizon):
            act = policy(FAMILY.observe(state))
            state, rew, _ = FAMILY.step(state, act, task, same(4, 1))
            total += rew
        by_keys = torch.zeros(24, 4).index_add(0, task.keys.long().flatten(), total)
        assert_close(by_keys, torch.zeros(24, 4), rtol=0, atol=0)
        assert total.abs().mean() > 1, "it eats nothing: the test is blind"


def test_oracle_takes_the_best_path():
    task = draw(FAMILY, 8)
    state = start(task, 1)
    key = FAMILY.oracle(state, task)
    for n in range(8):
        game = reference(state, task, n, 0)
        value = {move: game.best(move, FAMILY.lookahead) for move in MOVES}
        chosen = value[game.wiring[int(key[n, 0])]]
        assert_close(chosen, max(value.values()), rtol=0, atol=1e-5)
        assert max(value.values()) > min(value.values())


@pytest.mark.parametrize(
    ("split", "best"),
    [("train", 29.7), ("validation", 29.7), ("test", 29.7), ("extrapolate", 34.7)],
)
def test_oracle_return_is_the_one_in_the_docstring_and_beats_chance(split, best):
    task = FAMILY.members(split)
    oracle, chance = (
        play(FAMILY, task, actor, episodes=20)[1].sum(0).mean(-1) for actor in (FAMILY.oracle, None)
    )
    assert_close(oracle.mean().item(), best, rtol=0, atol=0.3)
    assert (oracle > chance + 15).all()
    assert_close(chance.mean().item(), 0.0, rtol=0, atol=0.5)


def patches(state, task):
    """The picture's pixels by row and column of the world, without the cells' edges."""
    picture = torch.from_numpy(FAMILY.frame(state, task).copy())
    assert picture.shape == (216, 216, 3)
    return picture.view(6, 36, 6, 36, 3).transpose(1, 2)[..., 4:-4, 4:-4, :]


def test_frame_shows_each_thing_in_its_own_colour_where_it_is():
    """And what the agent sees in the light."""
    task = make_task(FAMILY, **GAME)
    state = start(task, 1)
    for key in (0, 3):  # up and right, out of the world's middle
        state, _, _ = FAMILY.step(state, torch.tensor([[key]]), task, torch.zeros(1, 1, 1))
    game, seen, lights = reference(state, task, 0, 0), {}, Counter()
    game.row, game.column = state.pos[0, 0].tolist()
    for (row, column), kind in zip(game.around(), state.cells[0, 0].tolist(), strict=True):
        thing = "agent" if (row, column) == (game.row, game.column) else kind
        patch = patches(state, task)[row, column]
        light = tuple(patch[0, 0].tolist())
        colors = Counter(c for c in map(tuple, patch.flatten(0, 1).tolist()) if c != light)
        seen.setdefault(thing, set()).add(max(colors, key=colors.get, default=None))
        lights[light] += 1
    assert sorted(map(str, seen)) == ["0", "1", "2", "3", "agent"]
    assert [len(colors) for colors in seen.values()] == [1] * 5
    assert len(set().union(*seen.values())) == 5
    assert lights == {(222, 232, 214): 25, (150, 162, 146): 11}


@pytest.mark.parametrize(("worth", "wide", "high"), [(1.0, 10, 10), (0.0, 0, 0), (-1.0, 10, 2)])
def test_frame_signs_what_an_item_is_worth(worth, wide, high):
    """A white plus or minus, or nothing."""
    task = make_task(FAMILY, **{**GAME, "pebble": worth})
    state = start(task, 1)
    state = state._replace(cells=torch.zeros_like(state.cells).index_fill(-1, torch.tensor(0), 3))
    white = (patches(state, task)[0, 0] > 240).all(-1)
    assert abs(int(white.any(0).sum()) - wide) <= 2
    assert abs(int(white.any(1).sum()) - high) <= 2
