"""Videos and cameras: how frames are read and written."""
