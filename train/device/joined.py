"""Trees of arrays joined end to end into one vector: how the devices hold the training state.

An optimizer's step, an average and a sum over devices are the same for every element, and a network has hundreds of
small tensors: one kernel does what hundreds did. Checkpoints hold the trees themselves.
"""

from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Joined:
    """The leaves of a tree, end to end in a vector for each dtype that they have.

    To `jax.tree.map` the vectors are its leaves.

    Attributes:
        vectors: By the name of their dtype.
        structure: That of the tree.
        leaves: The dtype and the shape of each.
    """

    vectors: dict[str, jax.Array]
    structure: jax.tree_util.PyTreeDef = field(metadata={"static": True})
    leaves: tuple[tuple[str, tuple[int, ...]], ...] = field(metadata={"static": True})

    def split(self) -> Any:
        """The tree. What is differentiated through it has gradients that are joined as well."""
        pieces = {
            name: iter(_cut(vector, [prod(shape) for of, shape in self.leaves if of == name]))
            for name, vector in self.vectors.items()
        }
        return self.structure.unflatten([next(pieces[name]).reshape(shape) for name, shape in self.leaves])


def join(tree: Any) -> Joined:
    """The same tree, joined."""
    arrays, structure = jax.tree.flatten(tree)
    leaves = tuple((str(x.dtype), x.shape) for x in arrays)
    xp = np if all(isinstance(x, np.ndarray) for x in arrays) else jnp
    dtypes = sorted({of for of, _ in leaves})
    vectors = {name: xp.concatenate([x.reshape(-1) for x in arrays if x.dtype == name]) for name in dtypes}
    return Joined(vectors, structure, leaves)


def _cut(vector: jax.Array | np.ndarray, sizes: list[int]) -> list[Any]:
    if isinstance(vector, np.ndarray):
        return np.split(vector, [*accumulate(sizes)][:-1])
    return [*jax.lax.split(vector, sizes)]


def split(tree: Any) -> Any:
    """A tree in which everything that was joined is split; what was not stays."""
    return jax.tree.map(lambda x: x.split() if isinstance(x, Joined) else x, tree, is_leaf=_is_joined)


def as_before(tree: Any, before: Any) -> Any:
    """A tree joined where `before`, which holds the same, is."""
    return jax.tree.map(lambda old, new: join(new) if _is_joined(old) else new, before, tree, is_leaf=_is_joined)


def _is_joined(tree: Any) -> bool:
    return isinstance(tree, Joined)
