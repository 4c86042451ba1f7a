"""The bootstrap: against scikit-learn draw by draw, and for the promises that its intervals make."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from starter.evaluation.bootstrap import REPLICATES, Resampling, chance_ahead, interval, tie_groups

CLASSES = 6


def answers(rng: np.random.Generator, labels: np.ndarray, accuracy: float) -> np.ndarray:
    """Predictions that are right with a given chance, and else any class."""
    return np.where(rng.random(len(labels)) < accuracy, labels, rng.integers(0, CLASSES, len(labels)))


def true_f1(accuracy: float) -> float:
    """The macro F1 of `answers` over endless images of evenly spread classes: precision = recall."""
    return accuracy + (1 - accuracy) / CLASSES


def test_every_draw_has_the_f1_that_scikit_learn_gives_its_images() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES - 1, 40)  # the last class has no image, and is answered
    predictions = rng.integers(0, CLASSES, 40)
    draws = Resampling(labels, CLASSES)

    found = draws.macro_f1(predictions)

    assert found.shape == (REPLICATES,)
    for i in range(0, REPLICATES, 100):
        weights = draws._weights[i]
        assert weights.sum() == 40
        expected = f1_score(
            labels,
            predictions,
            labels=range(CLASSES),
            average="macro",
            sample_weight=weights,
            zero_division=0,
        )
        assert found[i] == pytest.approx(expected, abs=1e-6)


def test_images_of_one_group_are_drawn_together() -> None:
    groups = ["a", "a", "b", "", "", "b"]
    weights = Resampling([0, 1, 0, 1, 0, 1], 2, groups=groups)._weights

    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 5]).all()
    assert (weights[:, 3] != weights[:, 4]).any()


def test_groups_widen_the_interval_where_their_images_stand_or_fall_together() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.integers(0, CLASSES, 100), 6)
    predictions = np.repeat(answers(rng, labels[::6], 0.7), 6)
    groups = [f"photo {i // 6}" for i in range(600)]

    low, high = interval(Resampling(labels, CLASSES).macro_f1(predictions))
    grouped_low, grouped_high = interval(Resampling(labels, CLASSES, groups=groups).macro_f1(predictions))

    assert grouped_high - grouped_low > 2 * (high - low)


@pytest.mark.long
def test_the_interval_holds_the_true_f1_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        labels = rng.integers(0, CLASSES, 400)
        low, high = interval(Resampling(labels, CLASSES).macro_f1(answers(rng, labels, 0.8)))
        held += low <= true_f1(0.8) <= high
    assert 0.90 <= held / 200 <= 0.99


@pytest.mark.long
def test_the_chance_to_stay_ahead_comes_true_as_often_as_it_says() -> None:
    """Of pairs whose order is said to hold with a chance of 0.6 to 0.95, so many hold on new images."""
    rng = np.random.default_rng(4)
    chances, held = [], []
    for _ in range(500):
        labels = rng.integers(0, CLASSES, 300)
        unseen = rng.integers(0, CLASSES, 300)
        rivals = rng.uniform(0.6, 0.9, 2)  # where rivals are known to be close, less is true: see the module
        here = [answers(rng, labels, s) for s in rivals]
        there = [answers(rng, unseen, s) for s in rivals]
        if abs(rivals[0] - rivals[1]) > 0.15:
            continue  # certain
        draws = Resampling(labels, CLASSES, unseen=300)
        chance = chance_ahead(-draws.macro_f1(here[0]), -draws.macro_f1(here[1]))
        if not 0.05 <= min(chance, 1 - chance) <= 0.4:
            continue
        first = f1_score(unseen, there[0], average="macro") > f1_score(unseen, there[1], average="macro")
        chances.append(max(chance, 1 - chance))
        held.append(first == (chance > 0.5))

    assert len(held) > 60
    assert np.mean(held) == pytest.approx(np.mean(chances), abs=0.1)


def test_a_tie_group_is_what_cannot_be_told_from_its_first() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.001, (4, REPLICATES))
    common = rng.normal(0, 0.5, REPLICATES)  # what is hard for all does not tie them
    scores = [common + level + noise[i] for i, level in enumerate([0.1, 0.1005, 0.2, 0.3])]

    assert tie_groups(scores) == [1, 1, 2, 3]
    assert tie_groups([scores[0], scores[0]]) == [1, 1]
    assert tie_groups([]) == []


def test_the_same_images_give_the_same_draws() -> None:
    first = Resampling([0, 1, 1, 0], 2).macro_f1([0, 1, 0, 0])
    assert (first == Resampling([0, 1, 1, 0], 2).macro_f1([0, 1, 0, 0])).all()
    assert chance_ahead(first, first) == 0.5
