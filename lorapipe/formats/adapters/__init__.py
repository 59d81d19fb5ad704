"""From the tensors of an adapter's file to modules in their places, whatever their spelling."""
