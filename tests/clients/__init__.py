"""lorapipe against the programs that people use: peft, diffusers, lycoris-lora, transformers.

Not against our reading of them: each test lets the program make or load the file, and
compares numbers. ``pip install '.[clients]'`` brings the programs; without one of them its
tests skip. Models are tiny and random, so that everything runs on a CPU in seconds.
"""
