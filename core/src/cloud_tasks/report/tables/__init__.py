"""Tables: layout, sorting, filtering, and shared columns."""
