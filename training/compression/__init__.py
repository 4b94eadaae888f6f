"""Fewer bits a weight: after training (PTQ), and in training (QAT)."""
