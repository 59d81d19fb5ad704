"""Files of named tensors: how each kind is opened, checked, read and written."""
