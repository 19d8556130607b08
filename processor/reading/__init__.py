"""What formats read with: decompression within limits, the dialects of JSON, archives, lines, instants. Pure."""
