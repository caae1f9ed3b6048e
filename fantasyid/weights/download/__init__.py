"""Fetches model files when somebody asks for it: the only code with network.

`files` is the table of what there is and may be imported anywhere; everything else here is
imported by the one function that needs it, so that nothing at start-up can reach the network.
"""
