"""Other tools' files and flags: Neural Compressor, MindCV."""
