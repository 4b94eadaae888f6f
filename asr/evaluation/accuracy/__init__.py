"""How far what was recognised is from what was said."""
