"""Images: registry, headers, cutouts."""
