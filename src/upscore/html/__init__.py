"""What every page that upscore writes shares: its look, its head, which forbids it to load anything, and small images."""
