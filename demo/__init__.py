"""What `quickstart.py` is made of, in two halves.

`command` makes the environment with the standard library alone, and then runs `python -m demo`
inside it: the server, the graph, the results, with the packages that ComfyUI brings.
"""
