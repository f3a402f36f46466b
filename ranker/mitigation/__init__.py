"""What SmeLU replaces, as recipes: ensembles, self-ensembling with anti-distillation, distillation, the anchor.

`learn` trains the replicas of one arm by the arm's recipe, `Learned` is what comes of each replica, `Combined` serves
several components as one model, `Cost` is what a recipe costs.
"""

from ranker.mitigation.cost import Cost, cost
from ranker.mitigation.learned import Learned, predict
from ranker.mitigation.recipes import group, learn

__all__ = ["Cost", "Learned", "cost", "group", "learn", "predict"]
