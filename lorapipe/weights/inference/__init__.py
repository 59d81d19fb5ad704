"""What headers tell of a result before any weight is read: specs from specs, without torch."""
