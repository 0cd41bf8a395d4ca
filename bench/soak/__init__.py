"""The whole stack under a constant load for hours or days: `make soak FOR=172800` (docs/soak.md)."""
