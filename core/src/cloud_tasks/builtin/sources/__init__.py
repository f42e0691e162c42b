"""Task sources: JSON, JSON Lines, YAML, factories, parameter grids."""
