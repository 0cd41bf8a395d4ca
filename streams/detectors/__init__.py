"""Detectors, one a file: features in 0..1 go in, a raw score in 0..1 comes out, higher is stranger."""
