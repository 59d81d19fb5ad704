"""lorapipe builds LoRA weights as a build system builds software."""

__version__ = "0.1.0"
