"""Training: feature cache, distortions, objective, the loop, calibration."""
