"""How right the answers are: emotions, found faces and kept track ids."""
