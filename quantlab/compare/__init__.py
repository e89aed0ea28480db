"""Two models' answers and speeds side by side. Pure."""
