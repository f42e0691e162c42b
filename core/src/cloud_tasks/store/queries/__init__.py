"""Questions to the database that more than one reader asks: summary, timeline, cost breakdown, history."""
