"""What SmeLU replaces, as recipes: ensembles, self-ensembling with anti-distillation, distillation, the anchor.

`learn` trains the replicas of one arm by the arm's recipe, `Learned` is what comes of each replica, `served_model`
makes its components one model, `Cost` is what a recipe costs.
"""

from ranker.combined import Combined, served_model
from ranker.mitigation.cost import Cost, cost, serving
from ranker.mitigation.learned import Learned, predict
from ranker.mitigation.recipes import learn

__all__ = ["Combined", "Cost", "Learned", "cost", "learn", "predict", "served_model", "serving"]
