"""FID's features: the Inception v3 of 2015 that published values are measured with.

The file `pt_inception-2015-12-05-6726825d.pth` (Apache-2.0) is brought by the user. The network
differs from torchvision's in its pooling: padding does not count, and the last block takes the
maximum. Pictures are prepared as pytorch-fid does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from ...weights.read import only_tensors, read_torch_file

FILE = "pt_inception-2015-12-05-6726825d.pth"
WHERE_FROM = (
    f"get {FILE} (91 MB, Apache-2.0) from the releases page of github.com/mseitzer/pytorch-fid"
)
CLASSES, SIDE_PX = 1008, 299

Features = Callable[[Tensor], Tensor]


def find_inception(folders: Sequence[Path]) -> tuple[Path | None, str]:
    """The file of the network, or None and why there is no FID, in a sentence."""
    found = next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    place = folders[0] if folders else "models/fantasyid"
    return found, "" if found else f"No FID: {FILE} is not in {place}. To have it, {WHERE_FROM}."


def open_features(path: Path, device: torch.device | str) -> Features:
    """FID's features of one picture.

    Args:
        device: Where the network runs.

    Returns:
        A function from `(H, W, 3)` RGB in [0, 1] to `(2048,)` on the CPU.

    Raises:
        ValueError: The file holds something else.
    """
    network = build_network()
    weights = only_tensors(read_torch_file(path), path)
    wanted = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    wrong = [k for k, v in wanted.items() if k not in weights or weights[k].shape != v.shape]
    if wrong:
        raise ValueError(
            f"{path} is not FID's Inception v3: {len(wrong)} of {len(wanted)} weights are missing "
            f"or of another shape, the first is {wrong[0]}. To get it: {WHERE_FROM}"
        )
    network.load_state_dict({k: weights[k] for k in wanted}, strict=False)
    network.fc = nn.Identity()
    network.eval().requires_grad_(False).to(device)

    def features(picture: Tensor) -> Tensor:
        planes = picture.permute(2, 0, 1)[None].to(device, torch.float32)
        small = interpolate(planes, (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
        with torch.no_grad():
            return network(2 * small - 1)[0].cpu()

    return features


def build_network() -> Any:
    """torchvision's Inception v3 with FID's pooling, without weights."""
    from torchvision.models import Inception3
    from torchvision.models.inception import InceptionA, InceptionC, InceptionE

    def mean_pool(x: Tensor) -> Tensor:
        return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    def max_pool(x: Tensor) -> Tensor:
        return max_pool2d(x, 3, stride=1, padding=1)

    network = Inception3(CLASSES, aux_logits=False, init_weights=False)
    for name, block in network.named_children():
        if isinstance(block, (InceptionA, InceptionC, InceptionE)):
            pool = max_pool if name == "Mixed_7c" else mean_pool
            # The pooled branch is the last one: its place in the block's output is known.
            block.register_forward_hook(_repooled(pool))
    return network


def _repooled(pool: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A hook that calculates a block's pooled branch again, with another pooling."""

    def hook(block: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        branch = block.branch_pool(pool(inputs[0]))
        return torch.cat([output[:, : -branch.shape[1]], branch], 1)

    return hook
