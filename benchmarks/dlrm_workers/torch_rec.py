"""torchrec's own DLRM: `torch_rec.py OPTIMIZER VOCABULARY dense|fused`.

`dense`: torchrec's EmbeddingBagCollection with torch's optimizer; `fused`: its FusedEmbeddingBagCollection, whose
tables are updated in the backward pass, only the rows touched.
"""

import sys

import torch
from load import ACCUMULATOR, BATCH, BOTTOM, DENSE, DIM, EPSILON, IDS, RATE, ROWS, TOP, rows, serve
from torch import nn
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
    rules = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}
    numbers = {"lr": RATE}
    if optimizer == "adagrad":
        numbers |= {"initial_accumulator_value": ACCUMULATOR, "eps": EPSILON}
    if tables == "fused":
        own = {"lr": RATE} if optimizer == "sgd" else {"lr": RATE, "eps": EPSILON}
        collection = FusedEmbeddingBagCollection(configs, rules[optimizer], own)
    model = DLRM(collection, DENSE, list(BOTTOM), list(TOP))
    for name, weight in model.named_parameters():
        if "id" in name:
            nn.init.normal_(weight.data, 0.0, 0.01)
    rule = rules[optimizer]((p for p in model.parameters() if p.requires_grad), **numbers)
    dense, ids, label = (torch.from_numpy(part) for part in rows(vocabulary))
    ids, lengths = ids.long(), torch.ones(IDS * BATCH, dtype=torch.long)
    loss_of, at = nn.BCEWithLogitsLoss(), 0

    def advance(steps: int) -> float:
        nonlocal at
        total = 0.0
        for _ in range(steps):
            part = slice(at, at + BATCH)
            at = (at + BATCH) % ROWS
            sparse = KeyedJaggedTensor(names, ids[part].t().reshape(-1), lengths=lengths)
            rule.zero_grad(set_to_none=True)
            loss = loss_of(model(dense[part], sparse)[:, 0], label[part])
            loss.backward()
            rule.step()
            total += loss.item()
        return total / steps

    serve(advance)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
