"""What a step needs: operations, bytes, energy, and what a machine has of them."""
