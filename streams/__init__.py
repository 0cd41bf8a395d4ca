"""The Faust application: batch transport, windows, detectors, rules, checkpoint."""
