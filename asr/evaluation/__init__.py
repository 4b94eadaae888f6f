"""Word error rate, speed and memory: every figure that the project reports is computed here."""
