"""Recipe text to a :class:`~lorapipe.recipe.model.Recipe`: pure, and light to import."""
