"""FLAME: a head of 5023 vertices from shape, expression and pose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ..shapes import ShapeReader, Shapes
from .rotations import rotation_matrix

JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
PARENTS = (-1, 0, 1, 1, 1)
NUM_SHAPE = 100
NUM_EXPRESSION = 50
EXPRESSION_START = 300
NUM_DIRECTIONS = 400
NUM_POSE_FEATURES = 9 * (len(JOINTS) - 1)
# Our names of the tables -> those of the file.
FILE_KEYS = {
    name: name for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
} | {"triangles": "f"}


@dataclass(frozen=True)
class FlameConfig:
    """Sizes of a FLAME model; the numbers of directions and joints are fixed by its format."""

    num_vertices: int  # 5023 in every published FLAME model
    num_triangles: int  # 9976

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> FlameConfig:
        """Read the sizes from shapes by our names.

        Raises:
            ValueError: A tensor is missing or is not of FLAME's format.
        """
        read = ShapeReader(shapes, "FLAME")
        config = cls(read.size("v_template", None, 3), read.size("triangles", None, 3))
        for name, expected in config.shapes().items():
            read.axes(name, *expected)
        return config

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by name."""
        vertices, joints = self.num_vertices, len(JOINTS)
        return {
            "v_template": (vertices, 3),
            "shapedirs": (vertices, 3, NUM_DIRECTIONS),
            "posedirs": (vertices, 3, NUM_POSE_FEATURES),
            "J_regressor": (joints, vertices),
            "weights": (vertices, joints),
            "triangles": (self.num_triangles, 3),
        }


class Flame(nn.Module):
    """The head model as a fixed function of its three inputs; all its tables are buffers.

    Source: paper section 3.3; Li et al., "Learning a model of facial shape and expression from 4D
    scans" (2017), equations 1 to 5; joints and skinning as in SMPL (Loper et al. 2015).
    """

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    J_regressor: Tensor
    weights: Tensor
    triangles: Tensor

    def __init__(
        self,
        config: FlameConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, shape in config.shapes().items():
            kind = torch.int64 if name == "triangles" else dtype
            self.register_buffer(name, torch.zeros(shape, device=device, dtype=kind))

    def forward(self, betas: Tensor, expression: Tensor, pose: Tensor) -> Tensor:
        """Pose a head.

        Args:
            betas: `(B, 100)` shape coefficients, in standard deviations.
            expression: `(B, 50)` expression coefficients, in standard deviations.
            pose: `(B, 6)` axis-angles in radians: of the whole head, then of the jaw. Neck and
                eyes stay at rest.

        Returns:
            `(B, 5023, 3)` vertices in meters in model space: x to the head's left, y up, z
            forward.

        Raises:
            ValueError: A shape does not fit.
        """
        inputs = {"betas": (betas, NUM_SHAPE), "expression": (expression, NUM_EXPRESSION)}
        for name, (tensor, size) in (inputs | {"pose": (pose, 6)}).items():
            if tuple(tensor.shape) != (len(betas), size):
                raise ValueError(
                    f"Flame: {name} has the shape {tuple(tensor.shape)}, expected "
                    f"({len(betas)}, {size})"
                )
        shaped = self.shape(betas, expression)  # (B, V, 3)
        joints = torch.einsum("jv,bvc->bjc", self.J_regressor.to(betas), shaped)  # (B, J, 3)
        whole_head, jaw = pose.split(3, dim=-1)
        rest = torch.zeros_like(jaw)
        turns = torch.stack([whole_head, rest, jaw, rest, rest], dim=1)  # in the order of JOINTS
        rotations = rotation_matrix(turns)  # (B, J, 3, 3)
        identity = torch.eye(3, dtype=betas.dtype, device=betas.device)
        features = rearrange(rotations[:, 1:] - identity, "b j r c -> b (j r c)")  # (B, 36)
        posed = shaped + torch.einsum("vcp,bp->bvc", self.posedirs.to(betas), features)
        turn, shift = _chain(rotations, joints)  # (B, J, 3, 3), (B, J, 3)
        weights = self.weights.to(betas)
        turn_of_vertex = torch.einsum("vj,bjrc->bvrc", weights, turn)
        shift_of_vertex = torch.einsum("vj,bjr->bvr", weights, shift)
        return torch.einsum("bvrc,bvc->bvr", turn_of_vertex, posed) + shift_of_vertex

    def shape(self, betas: Tensor, expression: Tensor) -> Tensor:
        """The head at rest with its shape and expression: `(B, 5023, 3)` meters."""
        directions = self.shapedirs.to(betas)
        last = EXPRESSION_START + NUM_EXPRESSION
        return (
            self.v_template.to(betas)
            + torch.einsum("vcs,bs->bvc", directions[..., :NUM_SHAPE], betas)
            + torch.einsum("vce,be->bvc", directions[..., EXPRESSION_START:last], expression)
        )


def _chain(rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
    """For each joint the map from rest to posed model space: `x -> turn x + shift`."""
    turns = [rotations[:, 0]]
    positions = [joints[:, 0]]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        bone = joints[:, joint] - joints[:, parent]
        turns.append(turns[parent] @ rotations[:, joint])
        positions.append(positions[parent] + torch.einsum("brc,bc->br", turns[parent], bone))
    turn, position = torch.stack(turns, dim=1), torch.stack(positions, dim=1)
    return turn, position - torch.einsum("bjrc,bjc->bjr", turn, joints)


def flame_state_dict(model: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a FLAME file under our names.

    Args:
        model: What `read_pickle` gives for `generic_model.pkl` or `flame2023.pkl`.

    Returns:
        float32 tensors and int64 `triangles`, checked against each other.

    Raises:
        ValueError: An entry is missing, has another shape than FLAME's, is not finite, or the
            joints hang together in another way.
    """
    for key in (*FILE_KEYS.values(), "kintree_table"):
        if key not in model:
            raise ValueError(
                f"FLAME file: no entry {key!r}; the file has {sorted(model)}. "
                f"Expected generic_model.pkl of FLAME 2020 or flame2023.pkl"
            )
    state = {name: _table(key, model[key]) for name, key in FILE_KEYS.items()}
    config = FlameConfig.from_shapes({name: tuple(t.shape) for name, t in state.items()})
    corners = state["triangles"]
    if corners.numel() and not 0 <= corners.min() <= corners.max() < config.num_vertices:
        raise ValueError(f"FLAME file: f names vertices outside 0..{config.num_vertices - 1}")
    # The root's parent is written as -1 in an unsigned type.
    parents = np.asarray(model["kintree_table"])[:1].ravel()[1:].tolist()
    if parents != list(PARENTS[1:]):
        raise ValueError(
            f"FLAME file: kintree_table has the parents {parents}, expected {list(PARENTS[1:])}"
        )
    return state


def _table(key: str, entry: Any) -> Tensor:
    """An entry as a tensor: `f` in int64, others in float32."""
    if hasattr(entry, "toarray") and max(entry.shape) <= 1 << 16:  # a sparse matrix
        entry = entry.toarray()
    if not isinstance(entry, np.ndarray):
        raise ValueError(f"FLAME file: {key} is no array but a {type(entry).__name__}")
    if key == "f" and entry.dtype.kind not in "iu":
        raise ValueError(f"FLAME file: f holds {entry.dtype}, expected integers")
    if not np.isfinite(table := entry.astype(np.int64 if key == "f" else np.float32)).all():
        raise ValueError(f"FLAME file: {key} has values that are not finite")
    return torch.from_numpy(table)
