"""What steps do with adapters: joined, resized, shuffled, measured."""
