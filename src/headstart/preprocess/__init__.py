"""How pixels are prepared for a backbone: one record, and the graph nodes that follow from it."""
