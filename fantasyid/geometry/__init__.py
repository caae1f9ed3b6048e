"""Paper section 3.3: DECA, FLAME, mesh tables, spirals; editing (4.5), mesh files, rendering."""
