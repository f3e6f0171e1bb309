"""Networks: frozen backbones, the discriminator, and the detector made of the two."""
