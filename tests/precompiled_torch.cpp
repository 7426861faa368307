// For its precompiled header.
