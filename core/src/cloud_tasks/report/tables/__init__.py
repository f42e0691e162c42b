"""Table layout, sorting and filtering."""
