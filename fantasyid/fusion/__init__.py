"""Paper 3.4: the fusion transformer and the residual convolutions behind it."""
