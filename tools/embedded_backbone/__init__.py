"""How the embedded backbone was made: procedural images, objective, training, evaluation."""
