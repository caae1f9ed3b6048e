"""The 3D reading of a face: DECA, FLAME, mesh tables, mesh files, rendering."""
