"""torchrec's own DLRM: `torch_rec.py OPTIMIZER VOCABULARY dense|fused`.

`dense`: torchrec's EmbeddingBagCollection with torch's optimizer; `fused`: its FusedEmbeddingBagCollection, whose
tables are updated in the backward pass, only the rows touched.
"""

import sys

import torch
from load import BATCH, BOTTOM, DENSE, DIM, EPSILON, IDS, RATE, TOP, rows
from torch import nn
from torch_loop import rule, train
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.models.dlrm import DLRM
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection


def main(optimizer: str, vocabulary: int, tables: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    names = [f"id{i}" for i in range(IDS)]
    configs = [
        EmbeddingBagConfig(name=n, embedding_dim=DIM, num_embeddings=vocabulary, feature_names=[n])
        for n in names
    ]
    collection = EmbeddingBagCollection(configs)
    if tables == "fused":
        own = {"lr": RATE} if optimizer == "sgd" else {"lr": RATE, "eps": EPSILON}
        kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adagrad
        collection = FusedEmbeddingBagCollection(configs, kind, own)
    model = DLRM(collection, DENSE, list(BOTTOM), list(TOP))
    for name, weight in model.named_parameters():
        if "id" in name:
            nn.init.normal_(weight.data, 0.0, 0.01)
    update = rule(optimizer, (p for p in model.parameters() if p.requires_grad))
    dense, ids, label = (torch.from_numpy(part) for part in rows(vocabulary))
    ids, lengths = ids.long(), torch.ones(IDS * BATCH, dtype=torch.long)
    loss_of = nn.BCEWithLogitsLoss()

    def loss_at(part: slice) -> torch.Tensor:
        sparse = KeyedJaggedTensor(names, ids[part].t().reshape(-1), lengths=lengths)
        return loss_of(model(dense[part], sparse)[:, 0], label[part])

    train(loss_at, update)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
