"""Places by the mean of ranks: how a board orders its entries under the preset `rank-average`.

An entry's rank depends on the others, so it is no field of a result: it is made with the board, among one
entry of each team. Which entry that is, and all ties, are decided by the entries' own scores.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from starter.contract.competition import ScoreRules
from starter.evaluation.bootstrap import Floats
from starter.evaluation.scoring import Counts, mean_ranks
from starter.organizer.leaderboard.model import LeaderboardRow


class RankAverage:
    """Ranks entries by each scored cost and by F1.

    Args:
        counts: what each entry costs; every scored cost is counted.
        rules: the costs and their weights; F1 weighs 1.
    """

    def __init__(self, counts: Sequence[Counts], rules: ScoreRules) -> None:
        names = list(rules.weights)
        self._costs = np.array([[getattr(own, name) for own in counts] for name in names], dtype=np.float64)
        self._weights = [*rules.weights.values(), 1.0]

    def mean(self, f1: npt.ArrayLike) -> Floats:
        """Return the mean rank of each entry, from 1.

        Args:
            f1: shape (entries,), or (entries, draws).
        """
        values = np.asarray(f1, dtype=np.float64)
        costs = self._costs.reshape(*self._costs.shape, *[1] * (values.ndim - 1))
        criteria = np.concatenate([np.broadcast_to(costs, (len(costs), *values.shape)), -values[None]])
        return mean_ranks(criteria, self._weights)


def scored(rows: Sequence[LeaderboardRow], ranks: RankAverage) -> list[LeaderboardRow]:
    """Return rows with their mean rank as the score."""
    means = ranks.mean([row.macro_f1 or 0 for row in rows]).tolist() if rows else []
    return [row.model_copy(update={"score": mean}) for row, mean in zip(rows, means, strict=True)]


def by_score(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return rows by rising score, with their places; of a tie the order that they have decides."""
    ordered = sorted(rows, key=lambda row: row.score or 0)
    return [row.model_copy(update={"place": place}) for place, row in enumerate(ordered, 1)]
