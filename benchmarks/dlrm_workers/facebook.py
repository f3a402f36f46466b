"""facebookresearch/dlrm's own model: `facebook.py OPTIMIZER VOCABULARY CHECKOUT`.

`CHECKOUT` holds its `dlrm_s_pytorch.py`; that file's `DLRM_Net` is trained as its `run` does on one processor: summed bags
of sparse gradients, a sigmoid at the end, binary cross-entropy of probabilities.
"""

import sys

import numpy as np
import torch
from load import BATCH, BOTTOM, DENSE, DIM, IDS, TOP, rows
from torch import nn
from torch_loop import rule, train


def main(optimizer: str, vocabulary: int, checkout: str) -> None:
    sys.path.insert(0, checkout)
    from dlrm_s_pytorch import DLRM_Net

    torch.set_num_threads(1)
    torch.manual_seed(1)
    np.random.seed(1)  # it draws its weights with numpy
    vectors = IDS + 1
    model = DLRM_Net(
        DIM,
        np.full(IDS, vocabulary),
        np.array((DENSE, *BOTTOM)),
        np.array((DIM + vectors * (vectors - 1) // 2, *TOP)),
        arch_interaction_op="dot",
        sigmoid_top=len(TOP) - 1,
    )
    update = rule(optimizer, model.parameters())
    dense, ids, label = (torch.from_numpy(part) for part in rows(vocabulary))
    ids, offsets = ids.long().t().contiguous(), torch.arange(BATCH).expand(IDS, BATCH)
    loss_of = nn.BCELoss()

    train(lambda part: loss_of(model(dense[part], offsets, ids[:, part]), label[part, None]), update)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
