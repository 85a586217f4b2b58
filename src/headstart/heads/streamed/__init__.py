"""The head `linear` on more embeddings than fit into memory: the same solution, from passes over blocks of rows.

The problem is that of `headstart.heads.softmax`. Its Newton steps need, for each of their 30 to 80 products, the
probabilities of all rows; here a pass gives the value and the gradient, and a quasi-Newton method (L-BFGS, Nocedal
1980) makes the steps of those. What makes it take 10 to 30 passes and not hundreds is what is known beforehand: it
starts from linear discriminant analysis, which one pass gives in closed form, and its first guess of the Hessian holds,
for each class, the diagonal along the principal axes and the one direction that leaves it (`Curvature`).

Nothing depends on the number of threads: the sums of the blocks are added in the order of the blocks.
"""

from headstart.heads.streamed.blocks import Blocks, InMemory
from headstart.heads.streamed.fit import fit_as_chosen, fit_recipe

__all__ = ["Blocks", "InMemory", "fit_as_chosen", "fit_recipe"]
