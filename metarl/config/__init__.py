"""Settings, presets, published algorithms, and how they are recorded."""
