"""What files and builds are like: inspected, compared, reported."""
