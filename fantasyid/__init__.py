"""FantasyID (arXiv 2502.13995): identity-preserving text-to-video on CogVideoX.

Where a section of the paper lives:

| section                                 | folder       |
|-----------------------------------------|--------------|
| 3.1 the denoiser, CogVideoX             | `cogvideox`  |
| 3.2 face abstractor: crop to 36 tokens  | `face`       |
| 3.2 multi-view face collection          | `views`      |
| 3.3 3D constraints: DECA, FLAME, depth  | `geometry`   |
| 3.4 fusion transformer, ResConv1D       | `fusion`     |
| 3.5 layer-aware injection               | `injection`  |
| 4.1 training                            | `training`   |
| 4   metrics, protocol, ablations        | `evaluation` |

`identity` has the values that travel between the stages, `combine` makes one of several,
`attention` is what 3.4 and 3.5 share. `weights` reads files, `doctor` looks at an installation,
`command_line` is what the commands share.
All of that is plain torch and knows nothing of ComfyUI; `comfyui` is the one folder that does.

Axes in shapes: B batch, F frames, H W pixels or cells, C channels, N video tokens, K identity
tokens, L text tokens, V vertices, J joints, D width of a head, R references of one person.

Where the released model is not what the paper says, the code follows the release:

| paper                                              | release                                 |
|----------------------------------------------------|-----------------------------------------|
| 3.5: F_l is a convolution block, then a norm       | one linear layer, `to_out`              |
| 3.3, 3.4: spirals first, then the fusion           | fusion on 314 vertices, then spirals    |
| 3.3: E_dep from a depth map of projected vertices  | E_dep from the z of each vertex         |
| 4.1: N' = 314 vertex tokens                        | 314 inside; 79 tokens are injected      |

Source: docs/released-model.md, sections 1 and 3.
"""
