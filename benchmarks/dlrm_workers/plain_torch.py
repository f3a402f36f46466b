"""The DLRM in plain torch: `plain_torch.py OPTIMIZER VOCABULARY sparse|dense`."""

import sys

import torch
from load import BOTTOM, DENSE, DIM, IDS, TOP, rows
from torch import nn
from torch_loop import rule, train


def tower(width: int, sizes: tuple[int, ...], last: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in sizes:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    return nn.Sequential(*(layers if last else layers[:-1]))


class Dlrm(nn.Module):
    """Logits of a batch."""

    def __init__(self, vocabulary: int, sparse: bool):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(vocabulary, DIM, sparse=sparse) for _ in range(IDS))
        for table in self.tables:
            nn.init.normal_(table.weight, 0.0, 0.01)
        self.bottom = tower(DENSE, BOTTOM, last=True)
        vectors = IDS + 1
        self.top = tower(DIM + vectors * (vectors - 1) // 2, TOP, last=False)
        low = torch.tril_indices(vectors, vectors, -1)
        self.register_buffer("pairs", low[0] * vectors + low[1])

    def forward(self, dense: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Numbers [batch, 13] and ids [batch, 26] to logits [batch]."""
        bottom = self.bottom(dense)
        vectors = torch.stack([*(t(ids[:, i]) for i, t in enumerate(self.tables)), bottom], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([bottom, products.index_select(1, self.pairs)], dim=1))[:, 0]


def main(optimizer: str, vocabulary: int, gradients: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = Dlrm(vocabulary, gradients == "sparse")
    update = rule(optimizer, model.parameters())
    dense, ids, label = (torch.from_numpy(part) for part in rows(vocabulary))
    ids, loss_of = ids.long(), nn.BCEWithLogitsLoss()

    train(lambda part: loss_of(model(dense[part], ids[part]), label[part]), update)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
