"""Paper 3.2: views of one person from a clip or from photos, as different as can be."""
