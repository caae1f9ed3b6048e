"""Paper 3.1: CogVideoX, the diffusion transformer that everything stands on."""
