"""The web view: one page on this machine that shows how jobs go, from their databases."""
