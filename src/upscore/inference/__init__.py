"""Images to probabilities, probabilities to label maps: networks, averages, tiles, and the predictor that joins them."""
