"""Files on disk: located, read, told apart, converted, downloaded."""
