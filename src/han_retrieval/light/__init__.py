"""A search from the command line in NumPy alone: importing torch takes longer than all of it.

``encoder`` reads a sentence, ``scores`` is one block of attention, ``model`` loads the models that these two are, and
``search`` finds photos with them. What they cannot do, ``han_retrieval.search`` does; tests hold both to one another.
"""
