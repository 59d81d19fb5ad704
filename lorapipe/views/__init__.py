"""Plans, results and errors as text: views draw, they do not compute."""
