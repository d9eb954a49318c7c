"""Ready architectures and the small data sets they are trained on."""
