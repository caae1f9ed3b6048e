"""What is there, what is missing, what fits: answers before a run costs an hour."""
