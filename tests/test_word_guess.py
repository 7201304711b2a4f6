"""Word-guess against the rules of hangman, and the anchors in its docstring."""

from collections import Counter
from functools import lru_cache
from itertools import combinations, product

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import SPLITS, UsageError, make_task, task_values
from metarl.envs.games.word_guess import WordGuess
from metarl.envs.games.word_list import CONSONANTS, LETTERS, VOWELS, WORDS

FAMILY = WordGuess()


def start(task, episodes=2, family=FAMILY):
    gen = torch.Generator().manual_seed(0)
    return family.reset(task, torch.rand(len(task[0]), episodes, 1, generator=gen))


def spell(letters):
    return "".join(LETTERS[i] for i in letters.tolist())


def lexicon(task, n=0):
    """The words of task n, in order."""
    one = type(task)(*(x[n : n + 1] for x in task))
    luck = (torch.arange(FAMILY.size) + 0.5) / FAMILY.size
    return [spell(word) for word in FAMILY.reset(one, luck.view(1, -1, 1)).secret[0]]


def lexicons(split):
    members = FAMILY.members(split)
    return [lexicon(members, n) for n in range(len(members[0]))]


class HangmanByDefinition:
    def __init__(self, secret, misses):
        self.secret, self.misses, self.tried = secret, misses, []

    def guess(self, letter):
        """Reward, and whether the game is over."""
        found = 0 if letter in self.tried else self.secret.count(letter)
        self.tried.append(letter)
        self.misses -= found == 0
        return found or -1, self.misses == 0 or set(self.secret) <= set(self.tried)

    def seen(self):
        places = [[float(x == y and y in self.tried) for x in LETTERS] for y in self.secret]
        return [*places, [float(x in self.tried) for x in LETTERS]]


@pytest.mark.parametrize("family", [FAMILY, WordGuess(size=12, misses=2)])
def test_every_guess_is_that_of_the_rules(family):
    task = draw(family, 20)
    state = start(task, 4, family)
    mask = torch.ones(20, 4, dtype=torch.bool)
    games = [[HangmanByDefinition(spell(w), family.misses) for w in row] for row in state.secret]
    acts = random_acts(family, (family.horizon, 20, 4))
    # Letters of the word now and then, or games would all be lost.
    right = state.secret.movedim(-1, 0).repeat(3, 1, 1)[: family.horizon]
    acts = torch.where(acts % 2 == 0, right, acts)
    wins = 0
    for act in acts:
        state, rew, terminated = family.step(state, act, task, torch.zeros(20, 4, 0))
        seen = family.observe(state)
        for n, b in mask.nonzero().tolist():
            game = games[n][b]
            got = (rew[n, b].item(), terminated[n, b].item())
            assert got == game.guess(LETTERS[int(act[n, b])])
            assert seen[n, b].tolist() == game.seen()
            wins += terminated[n, b].item() and game.misses > 0
        mask &= ~terminated
    assert not mask.all()
    assert 0 < wins < 80


def test_a_letter_tried_before_is_a_miss():
    task = make_task(FAMILY)
    state = start(task, 1)
    act, total = state.secret[..., 0], []
    for _ in range(1 + FAMILY.misses):
        state, rew, terminated = FAMILY.step(state, act, task, torch.zeros(1, 1, 0))
        total.append((rew.item() > 0, terminated.item()))
    assert total == [(True, False), *[(False, False)] * (FAMILY.misses - 1), (False, True)]


@pytest.mark.parametrize("misses", [1, 6])
def test_the_horizon_is_the_longest_game(misses):
    """All misses but one, each of the four letters but the last, and one guess more."""
    family = WordGuess(misses=misses)
    task = make_task(family)
    words = [w for w in lexicon(task) if len(set(w)) == 4]
    secret = torch.tensor([[[LETTERS.index(x) for x in words[0]]]])
    wrong = [x for x in range(20) if x not in secret.flatten().tolist()]
    acts = [*wrong[: misses - 1], *secret.flatten().tolist()]
    for last in (acts[-1], wrong[-1]):
        state, ends = start(task, 1, family)._replace(secret=secret), []
        for act in (*acts[:-1], last):
            state, _, end = family.step(state, torch.tensor([[act]]), task, torch.zeros(1, 1, 0))
            ends.append(end.item())
        assert ends == [False] * (family.horizon - 1) + [True]


def test_words_and_letters_are_in_order():
    assert list(WORDS) == sorted(set(WORDS))
    assert {len(word) for word in WORDS} == {4}
    assert set("".join(WORDS)) == set(LETTERS)
    assert sorted(LETTERS) == list(LETTERS)
    assert all(len(set(a) & set(b)) <= 3 for a, b in combinations(CONSONANTS, 2))
    assert {word for split in SPLITS for words in lexicons(split) for word in words} == set(WORDS)


def test_a_lexicon_keeps_to_its_favourite_letters():
    """No word left out has more places with favourites than one taken in."""
    known = {split: {w for words in lexicons(split) for w in words} for split in SPLITS}
    others = known["train"] | known["validation"] | known["test"]
    assert not known["extrapolate"] & others
    for split in SPLITS:
        pool = known[split] if split == "extrapolate" else others
        members = FAMILY.members(split)
        for n, values in enumerate(task_values(members)):
            favourites = VOWELS[int(values["vowels"])] + CONSONANTS[int(values["consonants"])]
            places = {w: sum(x in favourites for x in w) for w in pool}
            words = lexicon(members, n)
            assert len(set(words)) == FAMILY.size
            least = min(places[w] for w in words)
            assert all(places[w] <= least for w in pool - set(words))
            assert least >= 2


def test_splits_and_their_sizes():
    counts = {split: len(FAMILY.members(split)[0]) for split in SPLITS}
    assert counts == {"train": 50, "validation": 10, "test": 20, "extrapolate": 20}
    every = [frozenset(words) for split in SPLITS for words in lexicons(split)]
    shared = [len(a & b) for a, b in combinations(every, 2)]
    assert max(shared) < FAMILY.size, "two lexicons are the same"
    assert sum(shared) / len(shared) < 0.05 * FAMILY.size


def test_each_word_of_a_lexicon_is_as_likely():
    luck = (torch.arange(800) / 800).view(1, -1, 1)
    often = Counter(map(spell, FAMILY.reset(make_task(FAMILY), luck).secret[0]))
    assert often == dict.fromkeys(lexicon(make_task(FAMILY)), 100)


@pytest.mark.parametrize("size", [3, 8, 12, 100])
def test_the_greatest_luck_draws_the_last_word(size):
    family = WordGuess(size=size)
    luck = torch.tensor([1 - 1e-6, 1.0]).nextafter(torch.tensor(0.0)).view(1, 2, 1)
    other, last = family.reset(make_task(family), luck).secret[0].tolist()
    assert other == last


def fits(word, secret, tried):
    return all(
        (x == y) if y in tried else x not in tried for x, y in zip(word, secret, strict=True)
    )


def test_oracle_guesses_a_letter_of_most_words_that_fit():
    task = draw(FAMILY, 20, "test")
    state = start(task, 6)
    words = lexicons_of(task)
    for t in range(4):
        act = FAMILY.oracle(state, task)
        for n, b in product(range(20), range(6)):
            secret = spell(state.secret[n, b])
            tried = {x for x, y in zip(LETTERS, state.tried[n, b].tolist(), strict=True) if y}
            left = [w for w in words[n] if fits(w, secret, tried)]
            count = Counter(x for w in left for x in set(w) - tried)
            if count:
                assert count[LETTERS[int(act[n, b])]] == max(count.values())
        chance = random_acts(FAMILY, (20, 6), seed=t)
        act = torch.where(chance % 3 == 0, chance, act)
        state, _, _ = FAMILY.step(state, act, task, torch.zeros(20, 6, 0))


def lexicons_of(task):
    return [lexicon(task, n) for n in range(len(task[0]))]


def greedy_return(secret, weights):
    """Of one who guesses the likeliest untried letter, given how likely each word is."""
    game, total, over = HangmanByDefinition(secret, FAMILY.misses), 0, False
    while not over:
        tried, count = set(game.tried), Counter()
        for word, weight in weights.items():
            if fits(word, secret, tried):
                count.update(dict.fromkeys(set(word) - tried, weight))
        reward, over = game.guess(max(sorted(count), key=count.get))
        total += reward
    return total


def best_return(words):
    """Most that any player who knows the words can expect: every guess of every letter tried."""

    @lru_cache(None)
    def value(left, tried, misses):
        letters = {x for w in left for x in w} - tried
        if not letters or not misses:
            return 0.0
        return max(sum(branches(left, tried, misses, x)) for x in letters) / len(left)

    def branches(left, tried, misses, letter):
        places = {}
        for word in left:
            places.setdefault(tuple(x == letter for x in word), []).append(word)
        for found, those in places.items():
            then = value(frozenset(those), tried | {letter}, misses - (not any(found)))
            yield len(those) * ((sum(found) or -1) + then)

    return value(frozenset(words), frozenset(), FAMILY.misses)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_oracle_gets_what_the_docstring_says():
    each = [[greedy_return(w, dict.fromkeys(ws, 1)) for w in ws] for ws in lexicons("test")]
    assert_close(mean(map(mean, each)), 3.46, rtol=0, atol=0.01)
    _, rew, _ = play(FAMILY, FAMILY.members("test"), FAMILY.oracle, episodes=100)
    assert_close(rew.sum(0).mean().item(), 3.46, rtol=0, atol=0.1)


def test_no_player_who_is_told_the_lexicon_is_much_better_than_the_oracle():
    for words in lexicons("test")[::4]:
        best = best_return(words)
        assert best - 0.2 < mean(greedy_return(w, dict.fromkeys(words, 1)) for w in words) <= best


@pytest.mark.parametrize(
    ("known", "gets"),
    [(SPLITS[:3], (1.2, 1.1, 0.9)), (("train",), (1.4, 0.75, 0.3))],
)
def test_one_who_knows_lexicons_but_not_which_gets_much_less(known, gets):
    """Every one, or those of training; a word in none of them is thought to be rare."""
    words = {split: [w for words in lexicons(split) for w in words] for split in SPLITS[:3]}
    often = Counter(w for split in known for w in words[split])
    count = {w: max(often[w], 0.001) for split in words for w in words[split]}
    for split, want in zip(SPLITS, gets, strict=False):
        each = [[greedy_return(w, count) for w in words] for words in lexicons(split)]
        assert_close(mean(map(mean, each)), want, rtol=0, atol=0.05)


@pytest.mark.parametrize("misses", [0, 3, 6])
def test_frame_shows_what_was_found_what_was_missed_and_the_gallows(misses):
    task = make_task(FAMILY)
    state = start(task, 1)
    for act in range(20):
        if act not in state.secret and state.misses < misses:
            state, _, _ = FAMILY.step(state, torch.tensor([[act]]), task, torch.zeros(1, 1, 0))
    before = FAMILY.frame(state, task)
    state, _, _ = FAMILY.step(state, state.secret[..., 0], task, torch.zeros(1, 1, 0))
    after = FAMILY.frame(state, task)
    assert after.shape == (260, 420, 3)

    def cells(picture, color):
        corners = [(190 + 40 * (i // 10) - 12, 30 + 40 * (i % 10) - 12) for i in range(20)]
        return sum(tuple(picture[y, x].tolist()) == color for y, x in corners)

    assert (cells(before, (60, 160, 100)), cells(after, (60, 160, 100))) == (0, 1)
    assert cells(after, (214, 84, 72)) == misses
    ink = (after[40:146, 60:120] == (70, 74, 84)).all(-1)
    assert bool(ink[20:].any()) == (misses > 0)
    blue = (after[44:88, 166:214] == (40, 90, 200)).all(-1).sum()
    assert blue > 50 > (before[44:88, 166:214] == (40, 90, 200)).all(-1).sum()


@pytest.mark.parametrize("bad", [{"size": 0}, {"misses": 0}, {"size": 101}])
def test_impossible_games_are_refused(bad):
    (name,) = bad
    with pytest.raises(UsageError, match=f"{name}={bad[name]}"):
        WordGuess(**bad)
