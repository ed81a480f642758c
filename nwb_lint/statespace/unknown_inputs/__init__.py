"""Unknown inputs of the latents: their priors, and the regression with such inputs integrated out."""
