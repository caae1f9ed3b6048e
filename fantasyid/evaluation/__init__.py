"""Paper 4: metrics, protocol, ablations, best of several seeds."""
