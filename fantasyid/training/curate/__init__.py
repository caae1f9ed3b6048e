"""Paper 3.2 and 4.1: clips into a manifest. Scores first and once, thresholds late and for free."""
