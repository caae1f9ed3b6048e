"""The little world: drawn people who move as a sentence says, everything known and seeded.

`people` says who there is, `films` what happens, `drawing` makes pictures of both, `dataset` puts
them on disk as training reads them.
"""
