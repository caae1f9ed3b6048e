"""A small fusion transformer and small meshes for it."""

from __future__ import annotations

import torch
from geometry.meshes import closed_mesh

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


def small_tables() -> MeshTables:
    generator = torch.Generator().manual_seed(3)
    middle, middle_triangles = closed_mesh(4, 6)
    fine, fine_triangles = closed_mesh(8, 10)

    def pool(coarse_size: int, fine_size: int) -> Pool:
        return Pool(
            torch.randint(0, coarse_size, (fine_size, 3), generator=generator),
            torch.randn(fine_size, 3, generator=generator) * 0.3 + 1 / 3,
        )

    return MeshTables(
        coarse_index=torch.arange(0, fine, 7)[:12],
        pools=(pool(12, middle), pool(middle, fine)),
        spirals=(
            spiral_table(middle, torch.tensor(middle_triangles)),
            spiral_table(fine, torch.tensor(fine_triangles)),
        ),
        triangles=torch.tensor(fine_triangles),
    )
