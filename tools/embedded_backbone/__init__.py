"""How the embedded backbone was made: procedural pictures, objective, training, evaluation."""
