"""A small fusion transformer and small meshes for it."""

from __future__ import annotations

import torch

from fantasyid.fusion.reducer import ReducerConfig
from fantasyid.fusion.transformer import FusionConfig
from fantasyid.geometry.spiral import spiral_table
from fantasyid.geometry.topology import MeshTables, Pool

SMALL_FUSION = FusionConfig(
    dim=32,
    num_heads=1,
    mlp_dim=48,
    num_layers=2,
    num_queries=12,
    spiral_length=9,
    face_widths=(64, 40, 32),
    reducer=ReducerConfig(widths=(32, 40, 48), kernels=(5, 3)),
)


def sphere_triangles(rings: int, around: int) -> tuple[int, torch.Tensor]:
    """A closed mesh of `rings * around + 2` vertices."""
    rows = []
    top, bottom = rings * around, rings * around + 1
    for i in range(around):
        j = (i + 1) % around
        rows += [(top, i, j), (bottom, (rings - 1) * around + j, (rings - 1) * around + i)]
        for r in range(rings - 1):
            a, b = r * around, (r + 1) * around
            rows += [(a + i, b + i, b + j), (a + i, b + j, a + j)]
    return rings * around + 2, torch.tensor(rows)


def small_tables() -> MeshTables:
    generator = torch.Generator().manual_seed(3)
    middle, middle_triangles = sphere_triangles(4, 6)
    fine, fine_triangles = sphere_triangles(8, 10)

    def pool(coarse_size: int, fine_size: int) -> Pool:
        return Pool(
            torch.randint(0, coarse_size, (fine_size, 3), generator=generator),
            torch.randn(fine_size, 3, generator=generator) * 0.3 + 1 / 3,
        )

    return MeshTables(
        coarse_index=torch.arange(0, fine, 7)[:12],
        pools=(pool(12, middle), pool(middle, fine)),
        spirals=(spiral_table(middle, middle_triangles), spiral_table(fine, fine_triangles)),
        triangles=fine_triangles,
    )
