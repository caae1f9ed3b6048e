"""The paper's protocol as one command: references x prompts through a host, measured, reported."""
