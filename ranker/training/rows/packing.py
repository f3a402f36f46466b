"""How the weights of many towers stand in few tensors.

Dozens of small variables cost a step more in bookkeeping than in arithmetic. So all dense weights of a tower are one
vector, and all embedding tables of one width stand below each other in one table. Tables of a few rows (gender,
day of the week) are cheaper to update whole than row by row: they count as dense weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranker.architecture import Architecture, Weights


@dataclass(frozen=True)
class Group:
    """The embedding features of one length that are looked up row by row.

    Attributes:
        dim: the embeddings' length.
        names: the tables.
        features: the features that are looked up in them; several may share a table.
        columns: int [ids], which columns of the id matrix belong to the group.
        offsets: int32 [ids], where each such column's table starts.
        rows: of all tables of one replica.
        starts: where each table starts.
    """

    dim: int
    names: tuple[str, ...]
    features: tuple[str, ...]
    columns: np.ndarray
    offsets: np.ndarray
    rows: int
    starts: tuple[int, ...]


class Packing:
    """Between named weights and packed tensors.

    Args:
        architecture: the model of every tower.
        whole: embedding tables of at most so many rows are packed as dense weights.
    """

    def __init__(self, architecture: Architecture, whole: int = 0):
        self.shapes = architecture.shapes()
        embedded = architecture.inputs.embedded
        # Attention needs each value's embedding, and not a mixture of them.
        singly = {c.table for c in embedded if c.attends_to is not None}
        self.whole = tuple(
            dict.fromkeys(c.table for c in embedded if c.size <= whole and c.table not in singly)
        )
        packed = {f"embedding/{name}" for name in self.whole}
        self.dense = {n: s for n, s in self.shapes.items() if not n.startswith("embedding/") or n in packed}
        self.sizes = [int(np.prod(shape)) for shape in self.dense.values()]
        self.groups = _groups(architecture, self.whole)

    def kernels(self) -> np.ndarray:
        """1 where the packed dense vector holds a kernel of a tower, else 0, float32 [n]."""
        kinds = [name.endswith("/kernel") for name in self.dense]
        return np.repeat(np.array(kinds, np.float32), self.sizes)

    def pack_dense(self, weights: Weights) -> np.ndarray:
        """All dense weights as one float32 vector."""
        return np.concatenate([weights[name].ravel() for name in self.dense]).astype(np.float32)

    def pack_table(self, weights: Weights, group: Group) -> np.ndarray:
        """One group's embeddings, float32 [rows, dim]."""
        return np.concatenate([weights[f"embedding/{name}"] for name in group.names]).astype(np.float32)

    def unpack(self, dense: np.ndarray, tables: list[np.ndarray]) -> Weights:
        """The named weights from one tower's dense vector and its tables, one a group."""
        parts = np.split(dense, np.cumsum(self.sizes)[:-1])
        weights = {
            name: part.reshape(shape) for part, (name, shape) in zip(parts, self.dense.items(), strict=True)
        }
        for group, table in zip(self.groups, tables, strict=True):
            for name, part in zip(group.names, np.split(table, group.starts[1:]), strict=True):
                weights[f"embedding/{name}"] = part
        return {name: np.ascontiguousarray(weights[name]) for name in self.shapes}


def _groups(architecture: Architecture, whole: tuple[str, ...]) -> list[Group]:
    embedded = architecture.inputs.embedded
    firsts = np.cumsum([0, *(column.width for column in embedded)])
    groups = []
    for dim in dict.fromkeys(column.embedding_dim for column in embedded if column.table not in whole):
        members = [i for i, c in enumerate(embedded) if c.embedding_dim == dim and c.table not in whole]
        sizes = {embedded[i].table: embedded[i].size for i in members}
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        groups.append(
            Group(
                dim=dim,
                names=tuple(sizes),
                features=tuple(embedded[i].name for i in members),
                columns=np.concatenate([np.arange(firsts[i], firsts[i + 1]) for i in members]),
                offsets=np.concatenate(
                    [np.full(embedded[i].width, starts[embedded[i].table]) for i in members]
                ).astype(np.int32),
                rows=sum(sizes.values()),
                starts=tuple(starts.values()),
            )
        )
    return groups
