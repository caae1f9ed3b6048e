"""How good a video is: likeness to the reference, steadiness, motion of the face (paper 4.1)."""
