"""What `quickstart.py` is made of: standard library only, every module one step of the demo."""
