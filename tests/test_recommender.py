"""The recommender against its definition, and the anchors in its docstring."""

import math
from itertools import product

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import UsageError, make_task
from metarl.envs.bandits.recommender import Recommender

FAMILY = Recommender()


def chance_of_click(task, n, film, last, keenness=3.0):
    """Logistic, of what one user likes in a film and in its difference from the last."""
    taste = (task.fast, task.funny, task.long, task.new)
    liking = sum(wish[n].item() * trait for wish, trait in zip(taste, film, strict=True))
    alike = sum(a * b for a, b in zip(film, last, strict=True))
    return 1 / (1 + math.exp(-keenness * (liking - task.variety[n].item() * alike)))


def traits(luck):
    return [math.sin(math.pi * (u - 0.5)) for u in luck]


def films_by_definition(noise, choices):
    return [traits(noise[4 * i : 4 * i + 4]) for i in range(choices)]


@pytest.mark.parametrize("family", [FAMILY, Recommender(choices=2, keenness=1.0)])
@pytest.mark.parametrize("split", ["train", "extrapolate"])
def test_every_step_is_that_of_the_definition(family, split):
    n, b, k, gen = 5, 3, family.choices, torch.Generator().manual_seed(0)
    task = family.task_type(*(x.double() for x in draw(family, n, split)))
    noise = torch.rand(n, b, 4 * k, dtype=torch.float64, generator=gen)
    state = family.reset(task, noise)
    games = {
        (i, j): (films_by_definition(noise[i, j].tolist(), k), [0.0] * 4, 0)
        for i, j in product(range(n), range(b))
    }
    for t, act in enumerate(random_acts(family, (20, n, b)), start=1):
        noise = torch.rand(n, b, 4 * k + 1, dtype=torch.float64, generator=gen)
        state, rew, terminated = family.step(state, act, task, noise)
        seen = family.observe(state)
        assert not terminated.any()
        for (i, j), (films, last, clicks) in games.items():
            film, luck = films[int(act[i, j])], noise[i, j].tolist()
            clicked = luck[-1] < chance_of_click(task, i, film, last, family.keenness)
            assert rew[i, j] == state.clicked[i, j] == clicked
            games[i, j] = films_by_definition(luck, k), film, clicks + clicked
            films, last, clicks = games[i, j]
            assert_close(seen[i, j].tolist(), [x for row in films for x in row] + last)
            assert (state.time[i, j], state.clicks[i, j]) == (t, clicks)
    assert 0 < state.clicks.sum() < 20 * n * b


def test_the_first_film_is_compared_with_none():
    """A wish for variety can't matter before there is anything to vary."""
    noise = torch.rand(1, 500, 16, generator=torch.Generator().manual_seed(0))
    act = random_acts(FAMILY, (2, 1, 500))
    clicks = []
    for variety in (-1.0, 1.0):
        task = make_task(FAMILY, variety=variety)
        state = FAMILY.reset(task, noise)
        luck = torch.rand(1, 500, 17, generator=torch.Generator().manual_seed(1))
        state, first, _ = FAMILY.step(state, act[0], task, luck)
        clicks.append((first, FAMILY.step(state, act[1], task, luck)[1]))
    assert torch.equal(clicks[0][0], clicks[1][0])
    assert not torch.equal(clicks[0][1], clicks[1][1])


def test_most_films_are_decided():
    """A trait is the sine of a uniform angle: half lie beyond 0.707, on either side alike."""
    task = draw(FAMILY, 2)
    gen = torch.Generator().manual_seed(0)
    films = FAMILY.reset(task, torch.rand(2, 5000, 16, generator=gen)).films
    for x in (-0.9, -0.7, 0.0, 0.3, 0.95):
        share = (films <= x).double().mean((0, 1))
        assert_close(
            share, torch.full((4, 4), 0.5 + math.asin(x) / math.pi).double(), rtol=0, atol=0.02
        )


def test_without_adapting_every_policy_gets_half_a_click_a_film():
    """Exactly: of a user and the one with opposite wishes just one clicks, if luck is mirrored."""
    task, gen = draw(FAMILY, 100), torch.Generator().manual_seed(0)
    opposite = type(task)(*(-x for x in task))
    start = torch.rand(100, 5, 16, generator=gen)
    one, other = FAMILY.reset(task, start), FAMILY.reset(opposite, start)
    weights = torch.randn(20, 4, generator=gen)
    for _ in range(FAMILY.horizon):
        assert torch.equal(FAMILY.observe(one), FAMILY.observe(other))
        act = (FAMILY.observe(one) @ weights).argmax(-1)  # any function of what is seen would do
        luck = torch.rand(100, 5, 17, generator=gen)
        mirrored = torch.cat((luck[..., :-1], 1 - luck[..., -1:]), dim=-1)
        one, rew, _ = FAMILY.step(one, act, task, luck)
        other, rew_other, _ = FAMILY.step(other, act, opposite, mirrored)
        assert_close(rew + rew_other, torch.ones(100, 5))


def test_oracle_shows_the_film_most_likely_to_be_clicked():
    task = draw(FAMILY, 30)
    gen = torch.Generator().manual_seed(0)
    state = FAMILY.reset(task, torch.rand(30, 2, 16, generator=gen))
    noise = torch.rand(30, 2, 17, generator=gen)
    state, _, _ = FAMILY.step(state, random_acts(FAMILY, (30, 2)), task, noise)
    told = FAMILY.oracle(state, task)
    for n, b in product(range(30), range(2)):
        last = state.last[n, b].tolist()
        chances = [chance_of_click(task, n, film, last) for film in state.films[n, b].tolist()]
        assert chances[int(told[n, b])] == max(chances)


def test_anchors_are_those_in_the_docstring():
    """And an oracle that is blind to the wish for variety gets less."""
    task = draw(FAMILY, 2000)

    def blind(state, task):
        return FAMILY.oracle(state, task._replace(variety=torch.zeros_like(task.variety)))

    oracle, less, chance = (
        play(FAMILY, task, actor, episodes=4)[1].sum(0).mean().item()
        for actor in (FAMILY.oracle, blind, None)
    )
    assert_close(oracle, 17.2, rtol=0, atol=0.1)
    assert_close(less, 15.9, rtol=0, atol=0.15)
    assert_close(chance, 10.0, rtol=0, atol=0.1)


@pytest.mark.parametrize("constants", [{"choices": 1}, {"horizon": 0}])
def test_constants_that_leave_nothing_to_choose_are_refused(constants):
    with pytest.raises(UsageError, match=r"recommender: (choices=1|horizon=0) is out of bounds"):
        Recommender(**constants)


def test_frame_shows_films_as_bars_and_the_last_in_gold_if_it_was_clicked():
    task = make_task(FAMILY)
    state = FAMILY.reset(task, torch.full((1, 1, 16), 0.5))
    film = torch.tensor([1.0, -0.5, 0.25, -1.0])
    films = state.films.index_fill(2, torch.tensor(2), 0.0)
    films[0, 0, 2] = film
    edges = []
    for luck in (0.999999, 0.0):
        nxt, _, _ = FAMILY.step(
            state._replace(films=films), torch.tensor([[2]]), task, torch.full((1, 1, 17), luck)
        )
        picture = torch.from_numpy(FAMILY.frame(nxt._replace(films=films), task).copy())
        edges.append(picture[236, 18].tolist())
        for x, y in ((256, 16), (16, 176)):  # third on offer; shown last
            card = picture[y : y + 120, x : x + 104]
            for row, (value, hue) in enumerate(
                zip(
                    film.tolist(),
                    ((220, 80, 70), (235, 170, 50), (50, 150, 130), (70, 110, 200)),
                    strict=True,
                )
            ):
                bar = (card[30 + 20 * row] == torch.tensor(hue)).all(-1).nonzero().double()
                assert abs(len(bar) - 42 * abs(value)) <= 3
                assert (bar.mean() > 52) == (value > 0)
    assert edges == [[150, 152, 160], [235, 180, 50]]
