"""What training, test and extrapolation draw of one parameter."""

import math

import pytest
import torch

from metarl.envs import Choice, Range, UsageError
from metarl.envs.core.splits import SPLITS

U = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]


def fraction(condition):
    return condition.double().mean().item()


class TestRange:
    def test_training_leaves_out_what_is_held_out_and_test_is_just_that(self):
        known = Range(0.0, 10.0, held_out=(4.0, 6.0))
        train, test = known.draw(U, "train"), known.draw(U, "test")
        assert not ((train > 4) & (train < 6)).any()
        assert fraction(train <= 4) == pytest.approx(0.5, abs=1e-3)  # each side by its length
        assert (train.min(), train.max()) == (pytest.approx(0), pytest.approx(10, abs=0.01))
        assert ((test >= 4) & (test <= 6)).all()
        assert test.mean() == pytest.approx(5, abs=0.01)

    @pytest.mark.parametrize("log", [False, True])
    def test_validation_is_another_interval_that_training_leaves_out(self, log):
        known = Range(1.0, 10.0, held_out=(4.0, 6.0), validation=(6.0, 8.0), log=log)
        drawn = {split: known.draw(U, split) for split in SPLITS}
        assert not ((drawn["train"] > 4) & (drawn["train"] < 8)).any()
        assert (drawn["train"] > 8).any()
        assert (drawn["validation"].min(), drawn["validation"].max()) == pytest.approx(
            (6, 8), abs=0.01
        )
        assert (drawn["test"].min(), drawn["test"].max()) == pytest.approx((4, 6), abs=0.01)

    def test_without_one_of_its_own_validation_is_drawn_like_training_never_like_the_test(self):
        known = Range(0.0, 10.0, held_out=(4.0, 6.0))
        assert torch.equal(known.draw(U, "validation"), known.draw(U, "train"))

    def test_without_hold_outs_test_is_drawn_like_training(self):
        known = Range(2.0, 3.0)
        assert torch.equal(known.draw(U, "train"), known.draw(U, "test"))

    def test_a_hold_out_at_the_end_leaves_one_interval(self):
        known = Range(0.0, 10.0, held_out=(8.0, 10.0))
        assert known.draw(U).max() <= 8
        assert known.draw(U).mean() == pytest.approx(4, abs=0.01)

    def test_logarithms_are_uniform(self):
        known = Range(0.1, 10.0, log=True)
        x = known.draw(U)
        assert fraction(x < 1) == pytest.approx(0.5, abs=1e-3)
        assert x.log().std() == pytest.approx(math.log(100) / math.sqrt(12), rel=1e-3)
        assert (x.min(), x.max()) == (pytest.approx(0.1), pytest.approx(10, rel=0.01))
        assert known.default_value == pytest.approx(1.0)

    def test_logarithms_in_single_precision_stay_in_bounds(self):
        x = Range(1.5**-3, 1.5**3, log=True).draw(torch.tensor([0.0, 1 - 2**-24]))
        assert (x >= torch.tensor(1.5**-3)).all()
        assert (x <= torch.tensor(1.5**3)).all()

    @pytest.mark.parametrize(
        ("known", "train", "validation", "test", "extrapolate"),
        [
            (Range(1, 3, integer=True), [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]),
            (Range(1, 4, integer=True, held_out=(3, 3)), [1, 2, 4], [1, 2, 4], [3], [1, 2, 4]),
            (Range(1, 4, integer=True, held_out=(3, 4)), [1, 2], [1, 2], [3, 4], [1, 2]),
            (Range(1, 4, integer=True, validation=(2, 2)), [1, 3, 4], [2], [1, 3, 4], [1, 3, 4]),
            (
                Range(1, 7, integer=True, held_out=(6, 7), validation=(3, 4)),
                [1, 2, 5],
                [3, 4],
                [6, 7],
                [1, 2, 5],
            ),
            (Range(2, 3, integer=True, extrapolation=(0, 5)), [2, 3], [2, 3], [2, 3], [0, 1, 4, 5]),
            (Range(2, 3, integer=True, extrapolation=(2, 4)), [2, 3], [2, 3], [2, 3], [4]),
        ],
    )
    def test_whole_numbers_each_as_likely(self, known, train, validation, test, extrapolate):
        for split, want in zip(SPLITS, (train, validation, test, extrapolate), strict=True):
            values, counts = known.draw(U, split).unique(return_counts=True)
            assert values.tolist() == want
            assert counts.max() - counts.min() <= 2
        assert known.allows(known.default_value)
        assert not known.allows(2.5)

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ({"held_out": (4.0, 12.0)}, "give an interval inside"),
            ({"held_out": (6.0, 4.0)}, "give an interval inside"),
            ({"held_out": (4.0, 4.0)}, "give an interval inside"),
            ({"held_out": (0.0, 10.0)}, "nothing is left for training"),
            ({"validation": (4.0, 12.0)}, "validation=.*give an interval inside"),
            ({"held_out": (0.0, 5.0), "validation": (5.0, 10.0)}, "nothing is left for training"),
            ({"held_out": (2.0, 5.0), "validation": (4.0, 6.0)}, "don't overlap"),
            (
                {"held_out": (2.0, 5.0), "validation": (5.0, 6.0), "integer": True},
                "don't overlap",
            ),
            ({"log": True}, "bounds above 0"),
            ({"integer": True, "extrapolation": (-1.5, 20.0)}, "whole bounds"),
            ({"extrapolation": (0.0, 10.0)}, "wider"),
        ],
    )
    def test_nonsense_is_refused(self, how, words):
        with pytest.raises(UsageError, match=words):
            Range(0.0, 10.0, **how)


class TestChoice:
    KNOWN = Choice((1.0, 2.0, 5.0, 7.0), held_out=(5.0, 1.0), extrapolation=(9.0,))
    KEPT = Choice((1.0, 2.0, 5.0, 7.0), held_out=(5.0, 1.0), validation=(7.0,))

    @pytest.mark.parametrize(
        ("known", "split", "want"),
        [
            (KNOWN, "train", {2, 7}),
            (KNOWN, "validation", {2, 7}),
            (KNOWN, "test", {1, 5}),
            (KNOWN, "extrapolate", {9}),
            (KEPT, "train", {2}),
            (KEPT, "validation", {7}),
            (KEPT, "test", {1, 5}),
        ],
    )
    def test_each_split_has_its_values(self, known, split, want):
        values, counts = known.draw(U, split).unique(return_counts=True)
        assert set(values.tolist()) == want
        assert counts.max() - counts.min() <= 1

    def test_the_usual_value_is_one_of_training(self):
        assert self.KNOWN.default_value == 2.0

    def test_all_of_them_are_allowed(self):
        assert all(self.KNOWN.allows(v) for v in (1, 2, 5, 7, 9))
        assert not self.KNOWN.allows(3)

    def test_labels_are_what_a_person_reads(self):
        known = Choice((0.0, 1.0), labels=("4x4", "8x8"))
        assert (str(known), known.show(1.0)) == ("{4x4, 8x8}", "8x8")

    @pytest.mark.parametrize(
        ("values", "how", "words"),
        [
            ((), {}, "at least one"),
            ((1.0, 2.0), {"held_out": (3.0,)}, r"held_out=3: give some of \{1, 2\}"),
            ((1.0, 2.0), {"validation": (3.0,)}, r"validation=3: give some of \{1, 2\}"),
            ((1.0, 2.0), {"held_out": (1.0, 2.0)}, "is left for training"),
            ((1.0, 2.0), {"held_out": (1.0,), "validation": (2.0,)}, "is left for training"),
            ((1.0, 2.0), {"held_out": (1.0,), "validation": (1.0,)}, "validation both have 1"),
        ],
    )
    def test_nonsense_is_refused(self, values, how, words):
        with pytest.raises(UsageError, match=words):
            Choice(values, **how)
