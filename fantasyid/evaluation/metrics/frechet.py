"""Frechet distance between two sets of features: FID when the features are Inception's.

Source: M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", 2017, equation 6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Squared distance of two normal distributions that are fitted to features.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)). With the centred features A and B the
    last trace is the sum of the singular values of A B^T / sqrt((n1 - 1)(n2 - 1)): no square root
    of a matrix is needed, and fewer pictures than features are no difficulty.

    Args:
        first: `(N1, D)`, N1 > 1.
        second: `(N2, D)`, N2 > 1.

    Raises:
        ValueError: A set has fewer than two rows, the widths differ, or a value is not finite.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"a Frechet distance needs two sets of at least 2 features each of one width, got "
            f"{a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a feature is not a finite number")
    means = a.mean(0) - b.mean(0)
    a = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    b = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    common = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = float(means @ means + (a**2).sum() + (b**2).sum() - 2 * common)
    return max(distance, 0.0)  # equal sets may come out a rounding error below
